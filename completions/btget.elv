
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
            cand --files 'Only these files: numbers, ranges, or a glob; repeatable'
            cand --priority 'Weight of files, as FILE=N; 0 = not wanted; repeatable'
            cand --pieces 'Check just these pieces, from 0: 17 or 1-5,34-56'
            cand --state 'State to begin with: started, paused or stopped [default: started]'
            cand --seed-ratio 'Leave when uploaded / wanted size reaches this, e.g. 1.5'
            cand --seed-time 'Leave after seeding for so long, e.g. 90s, 10m, 2h, 1d'
            cand --stall-timeout 'Give up (exit 5) when no new data arrived for so long'
            cand -p 'Ports to listen on, tried in order: 6952,6881-6889,0 [default: 0, the system picks]'
            cand --port 'Ports to listen on, tried in order: 6952,6881-6889,0 [default: 0, the system picks]'
            cand --bind 'Local address for all connections and packets [default: any]'
            cand --tracker 'A further tracker for every torrent; repeatable'
            cand --max-peers 'Connections, all torrents together'
            cand --upload-slots 'Peers of a torrent that are sent data at the same time'
            cand --max-download-rate 'Bytes a second, all torrents together: 500K, 2M [default: no limit]'
            cand --max-upload-rate 'Bytes a second, all torrents together: 500K, 2M [default: no limit]'
            cand --on-complete 'Run CMD when everything wanted is there and verified'
            cand --on-error 'Run CMD when a torrent fails'
            cand --events 'Least severity for --json: debug, info, warning, critical, fatal [default: info]'
            cand --progress 'Progress on stderr: auto, bars, lines or none'
            cand --color 'Colour: auto, always or never; NO_COLOR is honoured'
            cand --overwrite 'Write over files that nothing shows to be the torrent''s; cut files that are too long'
            cand --hashcheck-only 'Verify what is there, report, exit; writes nothing, opens no socket'
            cand --full-check 'Read every byte again, whatever the resume data vouch for'
            cand --no-seed 'Leave as soon as everything wanted is there'
            cand --show 'Print what the torrent holds, and exit'
            cand --json 'Write events to stdout, one JSON object a line, and nothing else'
            cand -q 'Say errors only, and why it ended if not well; no progress unless --progress asks for it'
            cand --quiet 'Say errors only, and why it ended if not well; no progress unless --progress asks for it'
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
