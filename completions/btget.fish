complete -c btget -s d -l basedir -d 'Where data lives' -r -f -a "(__fish_complete_directories)"
complete -c btget -l preallocate -d 'How files are made: none, sparse or full [default: sparse]' -r -f -a "none\t''
sparse\t''
full\t''"
complete -c btget -l file-error -d 'What an error of the disk does: pause or exit [default: exit with --no-seed, else pause]' -r -f -a "pause\t''
exit\t''"
complete -c btget -l state-dir -d 'Where resume data live [default: $XDG_STATE_HOME/btget]' -r -f -a "(__fish_complete_directories)"
complete -c btget -l files -d 'Only these files: numbers, ranges, globs' -r
complete -c btget -l priority -d 'Weight of files, as FILE=N; 0 = not wanted; repeatable' -r
complete -c btget -l cat -d 'Write one file to standard output, as it comes' -r
complete -c btget -l pieces -d 'Check just these pieces, from 0: 17 or 1-5,34-56' -r
complete -c btget -l state -d 'State to begin with: started, paused or stopped [default: started]' -r -f -a "started\t''
paused\t''
stopped\t''"
complete -c btget -l seed-ratio -d 'Leave at this ratio of uploaded / wanted size' -r
complete -c btget -l seed-time -d 'Leave after seeding for so long, e.g. 90s, 10m, 2h, 1d' -r
complete -c btget -l stall-timeout -d 'Give up when nothing came for so long (exit 5)' -r
complete -c btget -l max-downloads -d 'Torrents that download at the same time' -r
complete -c btget -s p -l port -d 'Ports to listen on, in order [default: any]' -r
complete -c btget -l bind -d 'Local address or interface [default: any]' -r
complete -c btget -l proxy -d 'A proxy for everything: socks5://[user:pass@]host:port, http://..., or env' -r -f
complete -c btget -l tracker -d 'A further tracker for every torrent; repeatable' -r -f
complete -c btget -l webseed -d 'A further web seed for every torrent; repeatable' -r -f
complete -c btget -l peer -d 'A peer to call, for every torrent; repeatable' -r
complete -c btget -l encryption -d 'Encrypted connections with peers: off, allow, prefer or require [default: allow]' -r -f -a "off\t''
allow\t''
prefer\t''
require\t''"
complete -c btget -l ip-filter -d 'A block list: peers and DHT nodes at these addresses are refused; repeatable' -r -F
complete -c btget -l transport -d 'How peers are reached: tcp, utp or both [default: both]' -r -f -a "tcp\t''
utp\t''
both\t''"
complete -c btget -l dht-bootstrap -d 'A node to begin with in the DHT, or none; repeatable [default: some well-known ones]' -r
complete -c btget -l max-peers -d 'Connections, all torrents together' -r
complete -c btget -l upload-slots -d 'Peers that are sent data at the same time' -r
complete -c btget -l max-download-rate -d 'Bytes a second: 500K, 2M [default: no limit]' -r
complete -c btget -l max-upload-rate -d 'Bytes a second: 500K, 2M [default: no limit]' -r
complete -c btget -l on-complete -d 'Run CMD when everything wanted is there and verified' -r -f -a "(__fish_complete_command)"
complete -c btget -l on-error -d 'Run CMD when a torrent fails' -r -f -a "(__fish_complete_command)"
complete -c btget -l create -d 'Make a .torrent of a file or folder; prints its magnet link' -r -F
complete -c btget -s o -l output -d 'Where the .torrent is written [default: NAME.torrent in this folder]' -r -F
complete -c btget -l format -d 'Versions of BitTorrent that can read it: v1, v2 or hybrid [default: hybrid]' -r -f -a "v1\t''
v2\t''
hybrid\t''"
complete -c btget -l piece-length -d 'Bytes in a piece, 16K to 256M [default: for 1,000 to 2,000 pieces]' -r
complete -c btget -l node -d 'A node of the DHT in the torrent; repeatable' -r
complete -c btget -l comment -d 'A comment for people' -r
complete -c btget -l source -d 'A word that makes the info hash another one, as some trackers ask for' -r
complete -c btget -l date -d 'Say when it was made, and by which program' -r
complete -c btget -l save-torrent -d 'Write the .torrent to FILE, that of a magnet link once peers have said what it is' -r -F
complete -c btget -l events -d 'Least severity for --json: debug, info, warning, critical, fatal [default: info]' -r -f -a "debug\t''
info\t''
warning\t''
critical\t''
fatal\t''"
complete -c btget -l progress -d 'Progress on stderr: auto, bars, lines or none' -r -f -a "auto\t''
bars\t''
lines\t''
none\t''"
complete -c btget -l color -d 'Colour: auto, always or never; NO_COLOR is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c btget -l overwrite -d 'Write over files that nothing shows to be the torrent\'s; cut files that are too long'
complete -c btget -l sequential -d 'Pieces in order, from the first one that is missing'
complete -c btget -l hashcheck-only -d 'Verify what is there, report, exit'
complete -c btget -l full-check -d 'Read every byte again, whatever the resume data vouch for'
complete -c btget -l no-seed -d 'Leave as soon as everything wanted is there'
complete -c btget -l no-webseeds -d 'No data from web seeds, only from peers'
complete -c btget -l no-pex -d 'No peer exchange: peers are told of no others, and not heard about others'
complete -c btget -l no-lsd -d 'No search for peers on the local network'
complete -c btget -l no-port-map -d 'No port mapping: routers are not asked to let in peers that call'
complete -c btget -l no-dht -d 'No DHT: peers are not looked for in the distributed hash table'
complete -c btget -l private -d 'A private torrent: peers are found by its trackers alone'
complete -c btget -l magnet -d 'With --show, print the magnet link and nothing else'
complete -c btget -l show -d 'Print what the torrent holds, and exit'
complete -c btget -l plan -d 'Say what would be done, and do nothing of it'
complete -c btget -l json -d 'Write events to stdout, a JSON object a line'
complete -c btget -s q -l quiet -d 'Say errors only, and why it ended if not well'
complete -c btget -s v -l verbose -d 'Say more: -v what happens, -vv every step'
complete -c btget -s h -l help -d 'Print help: -h in short, --help in full'
complete -c btget -s V -l version -d 'Print the version'
complete -c btget -k -f -a '(__fish_complete_suffix .torrent | string match --regex -- ".*(?:/|\.torrent)(?:\t.*)?\$")'
