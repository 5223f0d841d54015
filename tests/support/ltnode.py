#!/usr/bin/env python3
"""A libtorrent client on loopback for the interop tests.

    ltnode.py TORRENT SAVE_PATH ADDRESS [--lsd] [--log-pex] [--dht HOST:PORT] [--encrypted] [--rc4] [--plain] [--utp] [--one-per-address] [--peer IP PORT]...

Seeds or downloads TORRENT, a file or a magnet link, in SAVE_PATH, listening on ADDRESS (a port of the system's choice). Says
on standard output, a line each: `listening PORT`, `progress PERCENT`, `pieces COUNT of COUNT`, `complete` once every piece is
there, `peer IP PORT [pex] [lsd]` of each that it is connected to and who told of it, with --log-pex `pex TEXT` for each
message of peer exchange, `warning TEXT`. Ends when standard input is closed, so that it never outlives its test.
"""

import select
import sys
import time

import libtorrent as lt


def say(*words):
    print(*words, flush=True)


def policy(options):
    """Of encryption: --encrypted for nothing else, --plain for never, --rc4 for RC4 alone; else unencrypted first."""
    if "--encrypted" in options or "--rc4" in options:
        return lt.enc_policy.pe_forced
    return lt.enc_policy.pe_disabled


def policy_in(options):
    return lt.enc_policy.pe_enabled if policy(options) == lt.enc_policy.pe_disabled else policy(options)


def settings(address, options):
    host = f"[{address}]" if ":" in address else address
    return {
        "listen_interfaces": f"{host}:0",
        "enable_dht": "--dht" in options,
        "dht_bootstrap_nodes": options[options.index("--dht") + 1] if "--dht" in options else "",
        # All nodes of these tests have one address, too.
        "dht_restrict_routing_ips": False,
        "dht_restrict_search_ips": False,
        "dht_prefer_verified_node_ids": False,
        "enable_lsd": "--lsd" in options,
        "enable_upnp": False,
        "enable_natpmp": False,
        # --utp: nothing else, in either direction.
        "enable_incoming_utp": "--utp" in options,
        "enable_outgoing_utp": "--utp" in options,
        "enable_incoming_tcp": "--utp" not in options,
        "enable_outgoing_tcp": "--utp" not in options,
        # By default it gives a connection up, without a word, of which one packet is lost three times: at 2 % that is one of 50 transfers.
        "utp_num_resends": 20,
        # Everyone in these tests has the same address, and the tracker is on loopback. With --one-per-address one peer is remembered of it,
        # and what that speaks.
        "allow_multiple_connections_per_ip": "--one-per-address" not in options,
        "ssrf_mitigation": False,
        # Its default of 15 s would be most of a test's time.
        "unchoke_interval": 1,
        # Unencrypted first: BEP 3 is what is tested.
        "out_enc_policy": int(policy(options)),
        "in_enc_policy": int(lt.enc_policy.pe_disabled if "--plain" in options else policy_in(options)),
        "allowed_enc_level": int(lt.enc_level.rc4 if "--rc4" in options else lt.enc_level.both),
        "alert_mask": int(lt.alert.category_t.error_notification)
        | int(lt.alert.category_t.status_notification)
        | int(lt.alert.category_t.connect_notification)
        | int(lt.alert.category_t.tracker_notification)
        | (int(lt.alert.category_t.peer_log_notification) if "--log-pex" in options else 0),
    }


def main():
    torrent, save_path, address = sys.argv[1:4]
    options = sys.argv[4:]
    session = lt.session(settings(address, options))
    if torrent.startswith("magnet:"):
        params = lt.parse_magnet_uri(torrent)
    else:
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(torrent)
    params.save_path = save_path
    handle = session.add_torrent(params)
    for place, option in enumerate(options):
        if option == "--peer":
            handle.connect_peer((options[place + 1], int(options[place + 2])))
    peers = set()
    port_said = complete_said = False
    last_progress = last_pieces = None
    while True:
        for alert in session.pop_alerts():
            if isinstance(alert, lt.listen_succeeded_alert) and not port_said:
                say("listening", session.listen_port())
                port_said = True
            elif isinstance(alert, lt.peer_log_alert):
                if "PEX" in alert.message():
                    say("pex", alert.message())
            elif "error" in alert.what() or "failed" in alert.what():
                say("warning", alert.what(), alert.message())
        for peer in handle.get_peer_info():
            sources = [name for name in ("pex", "lsd") if peer.source & getattr(lt.peer_info, name)]
            if not peer.flags & (lt.peer_info.connecting | lt.peer_info.handshake):
                line = (*peer.ip, *sources)
                if line not in peers:
                    say("peer", *line)
                    peers.add(line)
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
