#!/usr/bin/env python3
"""libtorrent as the other maker of torrents, and as their reader.

    ltmake.py make PATH OUT v1|v2|hybrid PIECE_LENGTH [private]
    ltmake.py load TORRENT

`make` makes a torrent of PATH, its files in the order of the components of their paths, symbolic links as links. `load` says what it is: a line each
of `v1 HASH` and `v2 HASH` where there is one, `name NAME`, and `file LENGTH PATH` of each file that is no pad.
"""

import os
import sys
import warnings

import libtorrent as lt

warnings.simplefilter("ignore")


def make(path, out, kind, piece_length, private):
    flags = {
        "v1": lt.create_torrent.v1_only,
        "v2": lt.create_torrent.v2_only,
        "hybrid": lt.create_torrent.canonical_files,
    }[kind] | lt.create_torrent.symlinks
    files = sorted(lt.list_files(path, lambda _: True, lt.create_torrent.symlinks), key=lambda file: file.filename.split("/"))
    torrent = lt.create_torrent(files, piece_length, flags)
    torrent.set_priv(private)
    lt.set_piece_hashes(torrent, os.path.dirname(os.path.abspath(path)))
    with open(out, "wb") as written:
        written.write(lt.bencode(torrent.generate()))


def load(path):
    torrent = lt.torrent_info(path)
    hashes = torrent.info_hashes()
    if hashes.has_v1():
        print("v1", hashes.v1)
    if hashes.has_v2():
        print("v2", hashes.v2)
    print("name", torrent.name())
    files = torrent.files()
    for index in range(files.num_files()):
        if not files.file_flags(index) & lt.file_storage.flag_pad_file:
            print("file", files.file_size(index), files.file_path(index))


if sys.argv[1] == "make":
    make(*sys.argv[2:5], int(sys.argv[5]), "private" in sys.argv[6:])
else:
    load(sys.argv[2])
sys.stdout.flush()
# Its threads are not waited for.
os._exit(0)
