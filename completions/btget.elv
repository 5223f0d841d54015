
use builtin;
use str;

set edit:completion:arg-completer[btget] = {|@words|
    fn spaces {|n|
        builtin:repeat $n ' ' | str:join ''
    }
    fn cand {|text desc|
        edit:complex-candidate $text &display=$text' '(spaces (- 14 (wcswidth $text)))$desc
    }
    var command = 'btget'
    for word $words[1..-1] {
        if (str:has-prefix $word '-') {
            break
        }
        set command = $command';'$word
    }
    var completions = [
        &'btget'= {
            cand -d 'Where data lives'
            cand --basedir 'Where data lives'
            cand --preallocate 'How files are made: none, sparse or full [default: sparse]'
            cand --file-error 'What an error of the disk does: pause or exit [default: exit with --no-seed, else pause]'
            cand --state-dir 'Where resume data live [default: $XDG_STATE_HOME/btget]'
            cand --files 'Only these files: numbers, ranges, globs'
            cand --priority 'Weight of files, as FILE=N; 0 = not wanted; repeatable'
            cand --cat 'Write one file to standard output, as it comes'
            cand --pieces 'Check just these pieces, from 0: 17 or 1-5,34-56'
            cand --state 'State to begin with: started, paused or stopped [default: started]'
            cand --seed-ratio 'Leave at this ratio of uploaded / wanted size'
            cand --seed-time 'Leave after seeding for so long, e.g. 90s, 10m, 2h, 1d'
            cand --stall-timeout 'Give up when nothing came for so long (exit 5)'
            cand --max-downloads 'Torrents that download at the same time'
            cand -p 'Ports to listen on, in order [default: any]'
            cand --port 'Ports to listen on, in order [default: any]'
            cand --bind 'Local address or interface [default: any]'
            cand --proxy 'A proxy for everything: socks5://[user:pass@]host:port, http://..., or env'
            cand --tracker 'A further tracker for every torrent; repeatable'
            cand --webseed 'A further web seed for every torrent; repeatable'
            cand --peer 'A peer to call, for every torrent; repeatable'
            cand --encryption 'Encrypted connections with peers: off, allow, prefer or require [default: allow]'
            cand --ip-filter 'A block list: peers and DHT nodes at these addresses are refused; repeatable'
            cand --transport 'How peers are reached: tcp, utp or both [default: both]'
            cand --dht-bootstrap 'A node to begin with in the DHT, or none; repeatable [default: some well-known ones]'
            cand --max-peers 'Connections, all torrents together'
            cand --upload-slots 'Peers that are sent data at the same time'
            cand --max-download-rate 'Bytes a second: 500K, 2M [default: no limit]'
            cand --max-upload-rate 'Bytes a second: 500K, 2M [default: no limit]'
            cand --on-complete 'Run CMD when everything wanted is there and verified'
            cand --on-error 'Run CMD when a torrent fails'
            cand --create 'Make a .torrent of a file or folder; prints its magnet link'
            cand -o 'Where the .torrent is written [default: NAME.torrent in this folder]'
            cand --output 'Where the .torrent is written [default: NAME.torrent in this folder]'
            cand --format 'Versions of BitTorrent that can read it: v1, v2 or hybrid [default: hybrid]'
            cand --piece-length 'Bytes in a piece, 16K to 256M [default: for 1,000 to 2,000 pieces]'
            cand --node 'A node of the DHT in the torrent; repeatable'
            cand --comment 'A comment for people'
            cand --source 'A word that makes the info hash another one, as some trackers ask for'
            cand --date 'Say when it was made, and by which program'
            cand --save-torrent 'Write the .torrent to FILE, that of a magnet link once peers have said what it is'
            cand --events 'Least severity for --json: debug, info, warning, critical, fatal [default: info]'
            cand --progress 'Progress on stderr: auto, bars, lines or none'
            cand --color 'Colour: auto, always or never; NO_COLOR is honoured'
            cand --overwrite 'Write over files that nothing shows to be the torrent''s; cut files that are too long'
            cand --sequential 'Pieces in order, from the first one that is missing'
            cand --hashcheck-only 'Verify what is there, report, exit'
            cand --full-check 'Read every byte again, whatever the resume data vouch for'
            cand --no-seed 'Leave as soon as everything wanted is there'
            cand --no-webseeds 'No data from web seeds, only from peers'
            cand --no-pex 'No peer exchange: peers are told of no others, and not heard about others'
            cand --no-lsd 'No search for peers on the local network'
            cand --no-port-map 'No port mapping: routers are not asked to let in peers that call'
            cand --no-dht 'No DHT: peers are not looked for in the distributed hash table'
            cand --private 'A private torrent: peers are found by its trackers alone'
            cand --magnet 'With --show, print the magnet link and nothing else'
            cand --show 'Print what the torrent holds, and exit'
            cand --plan 'Say what would be done, and do nothing of it'
            cand --json 'Write events to stdout, a JSON object a line'
            cand -q 'Say errors only, and why it ended if not well'
            cand --quiet 'Say errors only, and why it ended if not well'
            cand -v 'Say more: -v what happens, -vv every step'
            cand --verbose 'Say more: -v what happens, -vv every step'
            cand -h 'Print help: -h in short, --help in full'
            cand --help 'Print help: -h in short, --help in full'
            cand -V 'Print the version'
            cand --version 'Print the version'
        }
    ]
    $completions[$command]
}
