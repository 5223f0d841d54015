
using namespace System.Management.Automation
using namespace System.Management.Automation.Language

Register-ArgumentCompleter -Native -CommandName 'btget' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commandElements = $commandAst.CommandElements
    $command = @(
        'btget'
        for ($i = 1; $i -lt $commandElements.Count; $i++) {
            $element = $commandElements[$i]
            if ($element -isnot [StringConstantExpressionAst] -or
                $element.StringConstantType -ne [StringConstantType]::BareWord -or
                $element.Value.StartsWith('-') -or
                $element.Value -eq $wordToComplete) {
                break
        }
        $element.Value
    }) -join ';'

    $completions = @(switch ($command) {
        'btget' {
            [CompletionResult]::new('-d', '-d', [CompletionResultType]::ParameterName, 'Where data lives')
            [CompletionResult]::new('--basedir', '--basedir', [CompletionResultType]::ParameterName, 'Where data lives')
            [CompletionResult]::new('--preallocate', '--preallocate', [CompletionResultType]::ParameterName, 'How files are made: none, sparse or full [default: sparse]')
            [CompletionResult]::new('--file-error', '--file-error', [CompletionResultType]::ParameterName, 'What an error of the disk does: pause or exit [default: exit with --no-seed, else pause]')
            [CompletionResult]::new('--state-dir', '--state-dir', [CompletionResultType]::ParameterName, 'Where resume data live [default: $XDG_STATE_HOME/btget]')
            [CompletionResult]::new('--files', '--files', [CompletionResultType]::ParameterName, 'Only these files: numbers, ranges, globs')
            [CompletionResult]::new('--priority', '--priority', [CompletionResultType]::ParameterName, 'Weight of files, as FILE=N; 0 = not wanted; repeatable')
            [CompletionResult]::new('--cat', '--cat', [CompletionResultType]::ParameterName, 'Write one file to standard output, as it comes')
            [CompletionResult]::new('--pieces', '--pieces', [CompletionResultType]::ParameterName, 'Check just these pieces, from 0: 17 or 1-5,34-56')
            [CompletionResult]::new('--state', '--state', [CompletionResultType]::ParameterName, 'State to begin with: started, paused or stopped [default: started]')
            [CompletionResult]::new('--seed-ratio', '--seed-ratio', [CompletionResultType]::ParameterName, 'Leave at this ratio of uploaded / wanted size')
            [CompletionResult]::new('--seed-time', '--seed-time', [CompletionResultType]::ParameterName, 'Leave after seeding for so long, e.g. 90s, 10m, 2h, 1d')
            [CompletionResult]::new('--stall-timeout', '--stall-timeout', [CompletionResultType]::ParameterName, 'Give up when nothing came for so long (exit 5)')
            [CompletionResult]::new('--max-downloads', '--max-downloads', [CompletionResultType]::ParameterName, 'Torrents that download at the same time')
            [CompletionResult]::new('-p', '-p', [CompletionResultType]::ParameterName, 'Ports to listen on, in order [default: any]')
            [CompletionResult]::new('--port', '--port', [CompletionResultType]::ParameterName, 'Ports to listen on, in order [default: any]')
            [CompletionResult]::new('--bind', '--bind', [CompletionResultType]::ParameterName, 'Local address or interface [default: any]')
            [CompletionResult]::new('--proxy', '--proxy', [CompletionResultType]::ParameterName, 'A proxy for everything: socks5://[user:pass@]host:port, http://..., or env')
            [CompletionResult]::new('--tracker', '--tracker', [CompletionResultType]::ParameterName, 'A further tracker for every torrent; repeatable')
            [CompletionResult]::new('--webseed', '--webseed', [CompletionResultType]::ParameterName, 'A further web seed for every torrent; repeatable')
            [CompletionResult]::new('--peer', '--peer', [CompletionResultType]::ParameterName, 'A peer to call, for every torrent; repeatable')
            [CompletionResult]::new('--encryption', '--encryption', [CompletionResultType]::ParameterName, 'Encrypted connections with peers: off, allow, prefer or require [default: allow]')
            [CompletionResult]::new('--ip-filter', '--ip-filter', [CompletionResultType]::ParameterName, 'A block list: peers and DHT nodes at these addresses are refused; repeatable')
            [CompletionResult]::new('--transport', '--transport', [CompletionResultType]::ParameterName, 'How peers are reached: tcp, utp or both [default: both]')
            [CompletionResult]::new('--dht-bootstrap', '--dht-bootstrap', [CompletionResultType]::ParameterName, 'A node to begin with in the DHT, or none; repeatable [default: some well-known ones]')
            [CompletionResult]::new('--max-peers', '--max-peers', [CompletionResultType]::ParameterName, 'Connections, all torrents together')
            [CompletionResult]::new('--upload-slots', '--upload-slots', [CompletionResultType]::ParameterName, 'Peers that are sent data at the same time')
            [CompletionResult]::new('--max-download-rate', '--max-download-rate', [CompletionResultType]::ParameterName, 'Bytes a second: 500K, 2M [default: no limit]')
            [CompletionResult]::new('--max-upload-rate', '--max-upload-rate', [CompletionResultType]::ParameterName, 'Bytes a second: 500K, 2M [default: no limit]')
            [CompletionResult]::new('--on-complete', '--on-complete', [CompletionResultType]::ParameterName, 'Run CMD when everything wanted is there and verified')
            [CompletionResult]::new('--on-error', '--on-error', [CompletionResultType]::ParameterName, 'Run CMD when a torrent fails')
            [CompletionResult]::new('--create', '--create', [CompletionResultType]::ParameterName, 'Make a .torrent of a file or folder; prints its magnet link')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Where the .torrent is written [default: NAME.torrent in this folder]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'Where the .torrent is written [default: NAME.torrent in this folder]')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'Versions of BitTorrent that can read it: v1, v2 or hybrid [default: hybrid]')
            [CompletionResult]::new('--piece-length', '--piece-length', [CompletionResultType]::ParameterName, 'Bytes in a piece, 16K to 256M [default: for 1,000 to 2,000 pieces]')
            [CompletionResult]::new('--node', '--node', [CompletionResultType]::ParameterName, 'A node of the DHT in the torrent; repeatable')
            [CompletionResult]::new('--comment', '--comment', [CompletionResultType]::ParameterName, 'A comment for people')
            [CompletionResult]::new('--source', '--source', [CompletionResultType]::ParameterName, 'A word that makes the info hash another one, as some trackers ask for')
            [CompletionResult]::new('--date', '--date', [CompletionResultType]::ParameterName, 'Say when it was made, and by which program')
            [CompletionResult]::new('--save-torrent', '--save-torrent', [CompletionResultType]::ParameterName, 'Write the .torrent to FILE, that of a magnet link once peers have said what it is')
            [CompletionResult]::new('--events', '--events', [CompletionResultType]::ParameterName, 'Least severity for --json: debug, info, warning, critical, fatal [default: info]')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'Progress on stderr: auto, bars, lines or none')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'Colour: auto, always or never; NO_COLOR is honoured')
            [CompletionResult]::new('--overwrite', '--overwrite', [CompletionResultType]::ParameterName, 'Write over files that nothing shows to be the torrent''s; cut files that are too long')
            [CompletionResult]::new('--sequential', '--sequential', [CompletionResultType]::ParameterName, 'Pieces in order, from the first one that is missing')
            [CompletionResult]::new('--hashcheck-only', '--hashcheck-only', [CompletionResultType]::ParameterName, 'Verify what is there, report, exit')
            [CompletionResult]::new('--full-check', '--full-check', [CompletionResultType]::ParameterName, 'Read every byte again, whatever the resume data vouch for')
            [CompletionResult]::new('--no-seed', '--no-seed', [CompletionResultType]::ParameterName, 'Leave as soon as everything wanted is there')
            [CompletionResult]::new('--no-webseeds', '--no-webseeds', [CompletionResultType]::ParameterName, 'No data from web seeds, only from peers')
            [CompletionResult]::new('--no-pex', '--no-pex', [CompletionResultType]::ParameterName, 'No peer exchange: peers are told of no others, and not heard about others')
            [CompletionResult]::new('--no-lsd', '--no-lsd', [CompletionResultType]::ParameterName, 'No search for peers on the local network')
            [CompletionResult]::new('--no-port-map', '--no-port-map', [CompletionResultType]::ParameterName, 'No port mapping: routers are not asked to let in peers that call')
            [CompletionResult]::new('--no-dht', '--no-dht', [CompletionResultType]::ParameterName, 'No DHT: peers are not looked for in the distributed hash table')
            [CompletionResult]::new('--private', '--private', [CompletionResultType]::ParameterName, 'A private torrent: peers are found by its trackers alone')
            [CompletionResult]::new('--magnet', '--magnet', [CompletionResultType]::ParameterName, 'With --show, print the magnet link and nothing else')
            [CompletionResult]::new('--show', '--show', [CompletionResultType]::ParameterName, 'Print what the torrent holds, and exit')
            [CompletionResult]::new('--plan', '--plan', [CompletionResultType]::ParameterName, 'Say what would be done, and do nothing of it')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Write events to stdout, a JSON object a line')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say errors only, and why it ended if not well')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say errors only, and why it ended if not well')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more: -v what happens, -vv every step')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more: -v what happens, -vv every step')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help: -h in short, --help in full')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help: -h in short, --help in full')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print the version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print the version')
            break
        }
    })

    $completions.Where{ $_.CompletionText -like "$wordToComplete*" } |
        Sort-Object -Property ListItemText
}
