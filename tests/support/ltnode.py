#!/usr/bin/env python3
"""A libtorrent client on loopback for the interop tests.

    ltnode.py TORRENT SAVE_PATH ADDRESS

Seeds or downloads TORRENT, a file or a magnet link, in SAVE_PATH, listening on ADDRESS (a port of the system's choice). Says
on standard output, a line each: `listening PORT`, `progress PERCENT`, `pieces COUNT of COUNT`, `complete` once every piece is
there, `warning TEXT`. Ends when standard input is closed, so that it never outlives its test.
"""

import select
import sys
import time

import libtorrent as lt


def say(*words):
    print(*words, flush=True)


def settings(address):
    host = f"[{address}]" if ":" in address else address
    return {
        "listen_interfaces": f"{host}:0",
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_incoming_utp": False,
        "enable_outgoing_utp": False,
        # Everyone in these tests has the same address, and the tracker is on loopback.
        "allow_multiple_connections_per_ip": True,
        "ssrf_mitigation": False,
        # Its default of 15 s would be most of a test's time.
        "unchoke_interval": 1,
        # Unencrypted first: BEP 3 is what is tested.
        "out_enc_policy": int(lt.enc_policy.pe_disabled),
        "in_enc_policy": int(lt.enc_policy.pe_enabled),
        "alert_mask": int(lt.alert.category_t.error_notification)
        | int(lt.alert.category_t.status_notification)
        | int(lt.alert.category_t.connect_notification)
        | int(lt.alert.category_t.tracker_notification),
    }


def main():
    torrent, save_path, address = sys.argv[1:4]
    session = lt.session(settings(address))
    if torrent.startswith("magnet:"):
        params = lt.parse_magnet_uri(torrent)
    else:
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(torrent)
    params.save_path = save_path
    handle = session.add_torrent(params)
    port_said = complete_said = False
    last_progress = last_pieces = None
    while True:
        for alert in session.pop_alerts():
            if isinstance(alert, lt.listen_succeeded_alert) and not port_said:
                say("listening", session.listen_port())
                port_said = True
            elif "error" in alert.what() or "failed" in alert.what():
                say("warning", alert.what(), alert.message())
        status = handle.status()
        checked = status.has_metadata and status.state not in (
            lt.torrent_status.states.checking_files,
            lt.torrent_status.states.checking_resume_data,
        )
        progress = int(status.progress * 100)
        if checked and progress != last_progress:
            say("progress", progress)
            last_progress = progress
        if checked and status.num_pieces != last_pieces:
            say("pieces", status.num_pieces, "of", handle.torrent_file().num_pieces())
            last_pieces = status.num_pieces
        if checked and status.is_seeding and not complete_said:
            say("complete")
            complete_said = True
        readable, _, _ = select.select([sys.stdin], [], [], 0.05)
        if readable and not sys.stdin.read(1):
            return


if __name__ == "__main__":
    main()
