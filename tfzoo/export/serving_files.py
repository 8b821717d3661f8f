"""Files that TensorFlow Serving reads beside a SavedModel: warm-up requests and settings for batching."""
import tensorflow as tf

# For --enable_batching with --enable_per_model_batching_params; a request waits for others for up to 2 ms.
BATCHING = """max_batch_size { value: 32 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 1000 }
num_batch_threads { value: 2 }
allowed_batch_sizes: 1
allowed_batch_sizes: 8
allowed_batch_sizes: 32
"""
WARM = ("A short text.", "A somewhat longer text, so that the server has seen more than one length. " * 8)


def _field(number, payload):
    # A length-delimited field of the protobuf wire format.
    size, head = len(payload), bytes([number << 3 | 2])
    while size > 127:
        head, size = head + bytes([size & 127 | 128]), size >> 7
    return head + bytes([size]) + payload


def predict_log(inputs, signature="serving_default"):
    """Return a serialized tensorflow.serving.PredictionLog of one PredictRequest: bytes.

    The message is written here because only the package tensorflow-serving-api contains its definition: PredictionLog
    {predict_log = 6: PredictLog {request = 1: PredictRequest {model_spec = 1, inputs = 2}}}.

    Args:
        inputs: dict of input name to tensor.
        signature: str.
    """
    request = _field(1, _field(3, signature.encode()))
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(2, _field(1, name.encode()) + _field(2, tensor))
    return _field(6, _field(1, request))


def warm_up(path, columns, axes):
    """Write warm-up requests.

    Args:
        path: path of the file to write, a TFRecord.
        columns: tuple of str, the inputs of serving_default.
        axes: int, 3 if the second input is [B, N] (multiple choice), else 2.
    """
    with tf.io.TFRecordWriter(str(path)) as writer:
        for text in WARM:
            inputs = {name: tf.constant([[text] * 2] if number and axes == 3 else [text])
                      for number, name in enumerate(columns)}
            writer.write(predict_log(inputs))
