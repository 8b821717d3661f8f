"""Tokenized corpora: texts are encoded once, cached on disk and read through a memory map, in constant memory.

A corpus is a folder `corpora/KEY` in the cache, with the files `tokens` (the ids of all texts in order), `edges` (the
start of each text, followed by the end of the last text), `documents` (only if the texts are sentences: the index of
each document's first sentence, followed by the number of sentences) and `manifest.json` (the sizes of the other files).
KEY is a hash of the data, of how the data is read, and of everything that determines the token ids.
"""
import array
import hashlib
import json
import os
import shutil

import numpy as np

from tfzoo import files, folders
from tfzoo.data.cache import cache_folder, locked
from tfzoo.data.encode import EncodedTexts, encode_pieces, progress_bar, split_sentences
from tfzoo.data.readers import whole_documents
from tfzoo.progress import tell

FORMAT = 1
EDGE, NARROW, WIDE = "<i8", "<u2", "<i4"  # fixed byte order, because machines may share the cache


def open_corpus(source, tokenizer):
    """Return the token ids for the texts in a source, encoding the texts if the ids are not cached.

    Args:
        source: TextFiles or Source.
        tokenizer: Tokenizer.

    Returns:
        EncodedTexts with len(source) texts, whose `tokens` are a memory map of uint16 or int32.

    Raises:
        OSError: if the cache cannot be written.
        DataError: if the source's files change while being read, or the source's reader raises it.
    """
    arrays = _open_or_build(source, tokenizer, False)
    edges = arrays["edges"]
    starts, ends = edges[:-1], edges[1:]
    if source.rows is not None:
        starts, ends = starts[source.rows], ends[source.rows]
    return EncodedTexts(arrays["tokens"], starts, ends)


def open_sentences(source, tokenizer):
    """Split a source's texts into sentences and return their token ids, encoding them if they are not cached.

    Args:
        source, tokenizer: see `open_corpus`.

    Returns:
        (EncodedTexts, int64 [len(source), 2]): the sentences of all texts, and each text's range of sentences, as start
        and end (exclusive).

    Raises:
        OSError, DataError: if `open_corpus` would raise them.
    """
    arrays = _open_or_build(source, tokenizer, True)
    edges, documents = arrays["edges"], arrays["documents"]
    documents = np.stack([documents[:-1], documents[1:]], axis=1)
    return (EncodedTexts(arrays["tokens"], edges[:-1], edges[1:]),
            documents if source.rows is None else documents[source.rows])


def _open_or_build(source, tokenizer, sentences):
    key = json.dumps([FORMAT, source.content, tokenizer.fingerprint, sentences])
    root = cache_folder() / "corpora"
    folder = root / hashlib.sha256(key.encode()).hexdigest()[:32]
    arrays = _open(folder)
    if arrays is not None:
        return arrays
    try:
        root.mkdir(parents=True, exist_ok=True)
        waiting = f"{source.name}: waiting for another process that is encoding it"
        with locked(_lock_of(folder), lambda: tell(waiting)) as held:
            arrays = _open(folder)
            if arrays is None:
                if folder.exists():
                    tell(f"{folder} is damaged: re-encoding {source.name}")
                if held:
                    _remove_unfinished(root, folder)
                _build(source, tokenizer, sentences=sentences, folder=folder)
                arrays = _open(folder)
    except OSError as error:
        if error.filename and not str(error.filename).startswith(str(root)):
            raise  # the error concerns one of the source's files
        raise OSError(f"{source.name}: the tokens cannot be cached in {root} ({error.strerror or error}); set "
                      "TFZOO_CACHE to a writable folder with enough space") from error
    return arrays


def _lock_of(folder):
    return folder.with_name(folder.name + ".lock")


def _remove_unfinished(root, folder):
    # Remove what killed builds left behind, for `folder`, whose lock is held here, and for folders whose lock is free.
    for left in root.glob(f"{files.TEMPORARY}*"):
        owner = root / left.name.removeprefix(files.TEMPORARY).split("-")[0]
        if owner == folder:
            shutil.rmtree(left, ignore_errors=True)
            continue
        with locked(_lock_of(owner)) as held:
            if held:
                shutil.rmtree(left, ignore_errors=True)


def _open(folder):
    # The arrays by file name, or None if the corpus is incomplete.
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        arrays = {}
        for name, (dtype, size) in manifest["files"].items():
            if (folder / name).stat().st_size != size * np.dtype(dtype).itemsize:
                return None
            # A memory map cannot be empty.
            arrays[name] = np.asarray(np.memmap(folder / name, dtype, "r")) if size else np.zeros(0, dtype)
        return arrays if arrays["edges"][-1] == len(arrays["tokens"]) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _build(source, tokenizer, sentences, folder):
    # The folder appears atomically.
    with folders.new_folder(folder, ours=("tokens", "edges", "documents", "manifest.json")) as temporary:
        written, pieces, counts = {}, source.all_pieces(), array.array("q")
        if sentences:
            pieces = split_sentences(whole_documents(pieces), counts)
        dtype = NARROW if tokenizer.vocab_size <= 2 ** 16 else WIDE
        with open(temporary / "tokens", "wb") as tokens, open(temporary / "edges", "wb") as edges, \
                progress_bar(f"encode {source.name}", source.characters) as bar:
            edges.write(np.zeros(1, EDGE))
            for ids, ends in encode_pieces(tokenizer, pieces, bar):
                tokens.write(ids.astype(dtype))
                edges.write(ends.astype(EDGE))
            for file, kind in ((tokens, dtype), (edges, EDGE)):
                file.flush()
                os.fsync(file.fileno())
                written[os.path.basename(file.name)] = kind, file.tell() // np.dtype(kind).itemsize
        if sentences:
            documents = np.cumsum([0, *counts]).astype(EDGE)
            files.write_chunks(temporary / "documents", [documents])
            written["documents"] = EDGE, len(documents)
        source.verify()
        files.write_atomic(temporary / "manifest.json", json.dumps(
            {"name": source.name, "tokenizer": tokenizer.kind, "sentences": sentences, "files": written}, indent=1))
