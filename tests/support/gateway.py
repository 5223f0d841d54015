"""A gateway for tests of port mapping: it speaks PCP, NAT-PMP and UPnP as it is told, passes on connections to what it has mapped, and says
what it is asked.

Usage: gateway.py INSIDE OUTSIDE WORD...
INSIDE and OUTSIDE are its addresses. Words: pcp, nat-pmp, upnp (what it speaks); taken (the port that is asked for first is another's), endless
(leases without end alone), refuse=CODE, location=URL, and of UPnP how it misbehaves: bomb, header, drip, redirect=URL, gzip, hang, garbage.
"""
import gzip, http.server, re, socket, struct, sys, threading, time

inside, outside, words = sys.argv[1], sys.argv[2], sys.argv[3:]
option = {word.split('=')[0]: word.split('=', 1)[-1] for word in words}
born, taken, mapped = time.time(), {}, {}
lock = threading.Lock()


def say(*what):
    with lock:
        print(*what, flush=True)


def relay(one, other):
    try:
        while data := one.recv(65536):
            other.sendall(data)
    except OSError:
        pass
    for end in (one, other):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(listener, to):
    while True:
        try:
            one, _ = listener.accept()
        except OSError:
            return
        other = socket.create_connection(to)
        for ends in ((one, other), (other, one)):
            threading.Thread(target=relay, args=ends, daemon=True).start()


def is_taken(protocol, external):
    """The first port that anybody asks for, and what is outside of the mappings of others."""
    return 'taken' in option and taken.setdefault('port', external) == external


def add(how, protocol, client, internal, external, seconds):
    say('map', how, protocol, '%s:%d' % (client, internal), external, seconds)
    key = (protocol, external)
    if protocol == 'tcp' and key not in mapped:
        listener = socket.create_server((outside, external))
        mapped[key] = listener
        threading.Thread(target=serve, args=(listener, (client, internal)), daemon=True).start()
    return external


def remove(how, protocol, external):
    say('unmap', how, protocol, external)
    for key in [key for key in mapped if key[0] == protocol and external in (0, key[1])]:
        mapped.pop(key).close()


def age():
    return int(time.time() - born)


def nat_pmp(packet, client):
    if 'nat-pmp' not in option or len(packet) < 2:
        return None
    op, refused = packet[1], int(option.get('refuse', 0))
    if packet[0] != 0:
        return struct.pack('>BBHI', 0, 128 + op % 128, 1, age())
    if op == 0:
        return struct.pack('>BBHI', 0, 128, 0, age()) + socket.inet_aton(outside)
    _, internal, external, seconds = struct.unpack('>HHHI', packet[2:12])
    protocol = 'udp' if op == 1 else 'tcp'
    if refused:
        return struct.pack('>BBHIHHI', 0, 128 + op, refused, age(), internal, 0, 0)
    if seconds == 0:
        remove('nat-pmp', protocol, external)
        return struct.pack('>BBHIHHI', 0, 128 + op, 0, age(), internal, 0, 0)
    if is_taken(protocol, external):
        external += 1
    add('nat-pmp', protocol, client, internal, external, seconds)
    return struct.pack('>BBHIHHI', 0, 128 + op, 0, age(), internal, external, seconds)


def pcp(packet, client):
    if 'pcp' not in option or packet[0] != 2 or len(packet) < 60 or packet[1] != 1:
        return None
    seconds, = struct.unpack('>I', packet[4:8])
    claimed = packet[8:24]
    internal, external = struct.unpack('>HH', packet[40:44])
    protocol = {6: 'tcp', 17: 'udp'}[packet[36]]
    result = int(option.get('refuse', 0))
    if ':' in client:
        told = socket.inet_pton(socket.AF_INET6, client.split('%')[0])
        address = told
    else:
        told = bytes(10) + b'\xff\xff' + socket.inet_aton(client)
        address = bytes(10) + b'\xff\xff' + socket.inet_aton(outside)
    if claimed != told:
        result = 12
    if result == 0 and seconds == 0:
        remove('pcp', protocol, external)
    elif result == 0:
        if is_taken(protocol, external):
            external += 1
        if ':' in client:
            say('map', 'pcp', protocol, client, external, seconds)
        else:
            add('pcp', protocol, client, internal, external, seconds)
    head = struct.pack('>BBBBII', 2, 129, 0, result, seconds, age()) + bytes(12)
    return head + packet[24:42] + struct.pack('>H', external) + address


def packets(family, address):
    server = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    server.bind((address, 5351) if family == socket.AF_INET else (address, 5351, 0, socket.if_nametoindex('d1')))
    while True:
        packet, source = server.recvfrom(2048)
        answer = pcp(packet, source[0]) or (nat_pmp(packet, source[0]) if family == socket.AF_INET else None)
        if 'garbage' in option:
            for noise in (b'', b'\0', b'\2\x81' + bytes(60), b'\0\x80\0\0', bytes(1500)):
                server.sendto(noise, source)
        if answer:
            server.sendto(answer, source)


DESCRIPTION = '''<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device><deviceList><device><deviceList><device>
<serviceList><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><controlURL>/ctl</controlURL></service>
</serviceList></device></deviceList></device></deviceList></device></root>'''


class Device(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path.startswith('/announce'):
            port, = re.findall(r'[?&]port=(\d+)', self.path)
            event = re.findall(r'[?&]event=(\w*)', self.path)
            say('announce', port, *event)
            return self.answer(200, b'd8:intervali1800e12:min intervali1e5:peers0:e')
        say('get', self.headers['Host'], self.path)
        body = DESCRIPTION.encode()
        try:
            if 'hang' in option:
                time.sleep(60)
            elif 'redirect' in option:
                self.answer(302, b'', [('Location', option['redirect'])])
            elif 'bomb' in option:
                self.answer(200, b'<a>' * (8 << 20))
            elif 'gzip' in option:
                self.answer(200, gzip.compress(bytes(64 << 20)), [('Content-Encoding', 'gzip')])
            elif 'header' in option:
                self.wfile.write(b'HTTP/1.1 200 OK\r\n')
                while True:
                    self.wfile.write(b'X-Long: ' + b'x' * 1000 + b'\r\n')
            elif 'drip' in option:
                self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n')
                while True:
                    self.wfile.write(b'x')
                    time.sleep(1)
            elif 'garbage' in option:
                self.answer(200, bytes(range(256)) * 10)
            else:
                self.answer(200, body)
        except OSError:
            pass
        say('done', self.path)

    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length'])).decode()
        action = self.headers['SOAPAction'].strip('"').split('#')[1]
        field = lambda name: re.findall('<%s>(.*?)</%s>' % (name, name), body)[0]

        def done(inner=''):
            text = '<s:Envelope><s:Body><u:%sResponse>%s</u:%sResponse></s:Body></s:Envelope>' % (action, inner, action)
            self.answer(200, text.encode())

        def refuse(code):
            text = '<s:Envelope><s:Body><s:Fault><detail><UPnPError><errorCode>%d</errorCode></UPnPError></detail></s:Fault></s:Body></s:Envelope>'
            self.answer(500, (text % code).encode())

        if action == 'GetExternalIPAddress':
            return done('<NewExternalIPAddress>%s</NewExternalIPAddress>' % outside)
        protocol, external = field('NewProtocol').lower(), int(field('NewExternalPort'))
        if action == 'DeletePortMapping':
            remove('upnp', protocol, external)
            return done()
        seconds = int(field('NewLeaseDuration'))
        if 'refuse' in option:
            return refuse(int(option['refuse']))
        if 'endless' in option and seconds:
            return refuse(725)
        if is_taken(protocol, external):
            return refuse(718)
        add('upnp', protocol, field('NewInternalClient'), int(field('NewInternalPort')), external, seconds)
        done()


def search():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(('239.255.255.250', 1900))
    group = socket.inet_aton('239.255.255.250') + socket.inet_aton(inside)
    server.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((inside, 0))
    while True:
        packet, source = server.recvfrom(2048)
        wanted = re.findall(r'\r\nST: (\S+)', packet.decode())
        say('search', source[0], *wanted)
        if not wanted or not wanted[0].endswith(':1'):
            continue
        location = option.get('location', 'http://%s:8000/desc.xml' % inside)
        answer = 'HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=60\r\nST: %s\r\nUSN: uuid:1::%s\r\nEXT:\r\nSERVER: x\r\nLOCATION: %s\r\n\r\n'
        sender.sendto((answer % (wanted[0], wanted[0], location)).encode(), source)


threads = []
if 'pcp' in option or 'nat-pmp' in option or 'deaf' in option:
    threads.append((packets, (socket.AF_INET, inside)))
if 'six' in option:
    threads.append((packets, (socket.AF_INET6, 'fe80::1')))
if 'upnp' in option:
    threads.append((search, ()))
server = http.server.ThreadingHTTPServer((inside, 8000), Device)
threads.append((server.serve_forever, ()))
for work, arguments in threads:
    threading.Thread(target=work, args=arguments, daemon=True).start()
time.sleep(0.2)
say('ready')
sys.stdin.read()
