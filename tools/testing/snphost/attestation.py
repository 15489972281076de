# SPDX-License-Identifier: GPL-2.0-only
"""
What a guest owner does: computes what the launch digest of a guest must be, and verifies an
attestation report. Cryptography is that of openssl and of Python, which know nothing of the
emulator. In place of AMD there is an authority of the build, which nobody can mistake for it.
"""
import functools
import hashlib
import pathlib
import struct
import subprocess
import tempfile
import uuid

REPORT_SIZE = 0x4A0
SIGNED = 0x2A0
# Bytes of a number in the signature, and from one number to the next
NUMBER = 48
STRIDE = 72

PAGE = 4096
# Types of pages in the launch digest
NORMAL, VMSA, ZERO, _, SECRETS, CPUID = range(1, 7)
# What OVMF wants there, by the types of its metadata. All others are zero.
SECTIONS = {2: SECRETS, 3: CPUID}
KERNEL_HASHES = 0x10
# Where KVM says that each VMSA is
VMSA_GPA = 0xFFFFFFFFF000

# GUIDs of OVMF's tables, and in the table of hashes
FOOTER = '96b582de-1fb2-45f7-baea-a366c55a082d'
METADATA = 'dc886566-984a-4798-a75e-5585a7bf67cc'
RESET = '00f771de-1a7e-4fcb-890e-68c77e2fb44e'
HASH_TABLE = '7255371f-3a3b-4b04-927b-1da6efa8d454'
HASHES = '9438d606-4f22-4cc9-b479-a793d411fd21'
COMMAND_LINE = '97d02dd8-bd20-4c94-aa78-e7714d36ab2a'
INITRD = '44baf731-3a2f-4bd7-9af1-41e29169781d'
KERNEL = '4de79437-abd2-427f-b835-d5b172d2045b'

OID = '1.3.6.1.4.1.3704.1.'
# The same before the last number, as ASN.1 has it
OID_DER = bytes([0x2B, 6, 1, 4, 1, 0x9C, 0x78, 1])
# Parts of a TCB version of family 1Ah: byte, and the end of the OID
TCB_PARTS = ((0, '3.9'), (1, '3.1'), (2, '3.2'), (3, '3.3'), (7, '3.8'))
CHIP_ID = '4'

# The launch digest


def guid(text):
    return uuid.UUID(text).bytes_le


def ovmf_tables(firmware):
    """By GUID. The table is read from its end, 32 bytes below that of the firmware."""
    tables = {}
    end = len(firmware) - 32 - 18
    size, found = struct.unpack_from('<H16s', firmware, end)
    if found != guid(FOOTER):
        raise ValueError('the firmware has no table of GUIDs')
    start, at = end + 18 - size, end
    while at > start:
        at -= 18
        size, found = struct.unpack_from('<H16s', firmware, at)
        at -= size - 18
        tables[found] = firmware[at : at + size - 18]
    return tables


def ovmf_sections(firmware, tables):
    """Address, size and type of each"""
    at = len(firmware) - struct.unpack('<I', tables[guid(METADATA)])[0]
    magic, _, _, number = struct.unpack_from('<4sIII', firmware, at)
    if magic != b'ASEV':
        raise ValueError('the firmware has no metadata')
    return [struct.unpack_from('<III', firmware, at + 16 + 12 * i) for i in range(number)]


def hash_table(kernel, initrd, command_line):
    entries = b''.join(
        guid(name) + struct.pack('<H', 50) + hashlib.sha256(data).digest()
        for name, data in (
            (COMMAND_LINE, command_line.encode() + b'\0'),
            (INITRD, initrd),
            (KERNEL, kernel),
        )
    )
    return guid(HASHES) + struct.pack('<H', 18 + len(entries)) + entries


def vmsa(signature, reset=0xFFFFFFF0):
    """
    A vCPU of QEMU and KVM at its start, with the SIGNATURE that CPUID has. KVM sets CR4.MCE if
    the host has it set, which the kernel of host.config has not.
    """
    page = bytearray(PAGE)
    data = (0, 0x93, 0xFFFF, 0)
    segments = [data] * 6 + [(0, 0, 0xFFFF, 0), (0, 0x82, 0xFFFF, 0), (0, 0, 0xFFFF, 0), (0, 0x8B, 0xFFFF, 0)]
    segments[1] = (0xF000, 0x9B, 0xFFFF, reset & 0xFFFF0000)
    for i, segment in enumerate(segments):
        struct.pack_into('<HHIQ', page, 16 * i, *segment)
    for at, value in (
        # EFER, CR0, DR7, DR6, RFLAGS, RIP, PAT, RDX, SEV_FEATURES, XCR0
        (0x0D0, 0x1000),
        (0x158, 0x10),
        (0x160, 0x400),
        (0x168, 0xFFFF0FF0),
        (0x170, 2),
        (0x178, reset & 0xFFFF),
        (0x268, 0x0007040600070406),
        (0x310, signature),
        (0x3B0, 1),
        (0x3E8, 1),
    ):
        struct.pack_into('<Q', page, at, value)
    # MXCSR, FCW
    struct.pack_into('<I', page, 0x408, 0x1F80)
    struct.pack_into('<H', page, 0x410, 0x37F)
    return bytes(page)


class Digest:
    def __init__(self):
        self.value = bytes(48)

    def page(self, kind, gpa, contents=b''):
        digest = hashlib.sha384(contents).digest() if contents else bytes(48)
        info = self.value + digest + struct.pack('<HBBIQ', 0x70, kind, 0, 0, gpa)
        self.value = hashlib.sha384(info).digest()

    def pages(self, kind, gpa, size, contents=b''):
        for at in range(0, size, PAGE):
            self.page(kind, gpa + at, contents[at : at + PAGE])


def measurement(firmware, hashes, vcpus, signature):
    """
    The launch digest of a guest of QEMU. HASHES is a hash_table(), or nothing if the guest
    is started without kernel-hashes.
    """
    tables = ovmf_tables(firmware)
    digest = Digest()
    digest.pages(NORMAL, (1 << 32) - len(firmware), len(firmware), firmware)
    for gpa, size, kind in ovmf_sections(firmware, tables):
        if kind == KERNEL_HASHES and hashes:
            at = struct.unpack_from('<I', tables[guid(HASH_TABLE)])[0] - gpa
            digest.pages(NORMAL, gpa, size, (bytes(at) + hashes).ljust(size, b'\0'))
        else:
            digest.pages(SECTIONS.get(kind, ZERO), gpa, size)
    for vcpu in range(vcpus):
        reset = struct.unpack('<I', tables[guid(RESET)])[0] if vcpu else 0xFFFFFFF0
        digest.page(VMSA, VMSA_GPA, vmsa(signature, reset))
    return digest.value


# The chain of certificates


def openssl(*arguments, **options):
    return subprocess.run(
        ['openssl', *map(str, arguments)], capture_output=True, check=True, **options
    ).stdout


def subject(name):
    return f'/O=RMPOPT for Linux/OU=emulated SNP host, not AMD/CN={name}-EMULATED'


PSS = ('-sha384', '-sigopt', 'rsa_padding_mode:pss', '-sigopt', 'rsa_pss_saltlen:48')


class Authority:
    """
    Root (ARK) and intermediate (ASK), each with a key of RSA, and the key of a chip (VCEK).
    They are made once, in a directory of the build.
    """

    def __init__(self, directory):
        self.path = pathlib.Path(directory)
        self.ark, self.ask, self.vcek = (self.path / f'{name}.pem' for name in ('ark', 'ask', 'vcek'))
        if not self.ask.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            self._make()

    def _make(self):
        for name in ('ark', 'ask'):
            openssl(
                'genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:4096', '-out', self.key(name)
            )
        openssl(
            'genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-384', '-out', self.key('vcek')
        )
        days = ('-days', '9000')
        openssl(
            'req', '-x509', *PSS, *days, '-subj', subject('ARK'), '-key', self.key('ark'), '-out', self.ark
        )
        authority = 'basicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n'
        self._sign('ask', 'ark', authority, self.ask)

    def key(self, name):
        return self.path / f'{name}.key'

    def _sign(self, name, issuer, extensions, out):
        request = openssl('req', '-new', '-subj', subject(name.upper()), '-key', self.key(name))
        with tempfile.NamedTemporaryFile('w', encoding='utf-8') as file:
            file.write(extensions)
            file.flush()
            by = ('-CA', self.path / f'{issuer}.pem', '-CAkey', self.key(issuer), '-CAcreateserial')
            rest = ('-days', '2500', '-extfile', file.name, '-out', out)
            openssl('x509', '-req', *PSS, *by, *rest, input=request)

    def endorse(self, chip_id, tcb):
        """The certificate of the chip with that firmware, with AMD's extensions"""
        extensions = [
            f'{OID}1=ASN1:INTEGER:1',
            f'{OID}2=ASN1:IA5STRING:EMULATED',
            f'{OID}4=DER:{chip_id.hex()}',
        ]
        extensions += [f'{OID}{end}=ASN1:INTEGER:{tcb[byte]}' for byte, end in TCB_PARTS]
        self._sign('vcek', 'ask', ''.join(f'{line}\n' for line in extensions), self.vcek)


def extension(certificate, end):
    """What an extension of AMD's holds, in DER"""
    oid = OID_DER + bytes(map(int, end.split('.')))
    at = certificate.find(bytes([6, len(oid)]) + oid) + 2 + len(oid)
    if at <= 2 + len(oid) or certificate[at] != 4:
        return b''
    return certificate[at + 2 : at + 2 + certificate[at + 1]]


# The owner of a guest

ID_BLOCK_SIZE = 96
# In the ID authentication information
BLOCK_SIGNATURE_AT, ID_KEY_AT, KEY_SIGNATURE_AT, AUTHOR_KEY_AT = 0x40, 0x240, 0x680, 0x880
# A public key: curve, and room for both numbers and more
KEY_SIZE = 0x404
P384 = 2


def little(number):
    return number[::-1]


def der_parts(der):
    """R and S of a signature in DER"""
    at = 4 + der[3]
    return der[4:at], der[at + 2 : at + 2 + der[at + 1]]


def id_block(digest, policy, svn):
    return digest + b'family'.ljust(16) + b'image'.ljust(16) + struct.pack('<IIQ', 1, svn, policy)


def key_of(numbers):
    key = struct.pack('<I', P384) + b''.join(number.ljust(STRIDE, b'\0') for number in numbers)
    return key.ljust(KEY_SIZE, b'\0')


class Owner:
    """Signs what a guest must be, with an ID key, and that key with an author key."""

    def __init__(self, directory):
        self.path = pathlib.Path(directory)

    def _key(self, name):
        path = self.path / f'{name}.key'
        if not path.exists():
            openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-384', '-out', path)
        return path

    def _signature(self, name, data):
        parts = der_parts(openssl('dgst', '-sha384', '-sign', self._key(name), input=data))
        return [little(part.lstrip(b'\0').rjust(NUMBER, b'\0')) for part in parts]

    def _public(self, name):
        """Both numbers, which end the key in DER"""
        der = openssl('pkey', '-in', self._key(name), '-pubout', '-outform', 'DER')
        return [little(der[-2 * NUMBER : -NUMBER]), little(der[-NUMBER:])]

    @functools.cached_property
    def _keys(self):
        """ID key, its signature by the author key, author key: two numbers each"""
        id_key = self._public('id')
        return [*id_key, *self._signature('author', key_of(id_key)), *self._public('author')]

    def numbers(self, block):
        """Before these, the signature of the ID block"""
        return self._signature('id', block) + self._keys

    def authentication(self, block):
        """The ID authentication information: a whole page, of which QEMU does not pad a part"""
        numbers = [number.ljust(STRIDE, b'\0') for number in self.numbers(block)]
        page = bytearray(PAGE)
        struct.pack_into('<II', page, 0, 1, 1)
        for i, at in enumerate((BLOCK_SIGNATURE_AT, ID_KEY_AT + 4, KEY_SIGNATURE_AT, AUTHOR_KEY_AT + 4)):
            page[at : at + 2 * STRIDE] = b''.join(numbers[2 * i : 2 * i + 2])
        for at in (ID_KEY_AT, AUTHOR_KEY_AT):
            struct.pack_into('<I', page, at, P384)
        return bytes(page)

    def key_digests(self):
        """As reports name them: ID key and author key"""
        numbers = self._keys
        return b''.join(hashlib.sha384(key_of(numbers[i : i + 2])).digest() for i in (0, 4))


# The report


def der_number(data):
    """A little-endian number as ASN.1 has it"""
    number = int.from_bytes(data, 'little')
    body = number.to_bytes(number.bit_length() // 8 + 1, 'big')
    return bytes([2, len(body)]) + body


def der_signature(report):
    r, s = (report[at : at + NUMBER] for at in (SIGNED, SIGNED + STRIDE))
    body = der_number(r) + der_number(s)
    return bytes([0x30, len(body)]) + body


def signed(report, public_key):
    """Whether that is a report with a signature of this key, which is in PEM"""
    with tempfile.NamedTemporaryFile() as key, tempfile.NamedTemporaryFile() as signature:
        for file, data in ((key, public_key.encode()), (signature, der_signature(report))):
            file.write(data)
            file.flush()
        command = ['openssl', 'dgst', '-sha384', '-verify', key.name, '-signature', signature.name]
        done = subprocess.run(command, input=report[:SIGNED], capture_output=True, check=False)
    return done.returncode == 0


def chained(authority):
    """Whether the VCEK's certificate comes from the ARK"""
    command = ['openssl', 'verify', '-CAfile', authority.ark, '-untrusted', authority.ask, authority.vcek]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def faults(report, authority, owner, nonce, digest):
    """Why the report must not be trusted: nothing, if all is as it has to be"""
    der = openssl('x509', '-in', authority.vcek, '-outform', 'DER')
    tcb = report[0x180:0x188]
    checks = (
        ('the certificate of the VCEK does not come from the ARK', chained(authority)),
        ('it is from another chip', extension(der, CHIP_ID) == report[0x1A0:0x1E0]),
        (
            'its TCB version is another one',
            all(int.from_bytes(extension(der, end)[2:], 'big') == tcb[byte] for byte, end in TCB_PARTS),
        ),
        (
            'it is not signed by the VCEK',
            signed(report, openssl('x509', '-in', authority.vcek, '-noout', '-pubkey').decode()),
        ),
        ('it has not the nonce: it is old, or for somebody else', report[0x50:0x90] == nonce),
        ('the guest has been launched from something else: measurement', report[0x90:0xC0] == digest),
        ('the guest may be debugged: policy', not report[0x0A] & 8),
        ('it is not the guest of this owner: ID key, author key', report[0xE0:0x140] == owner.key_digests()),
    )
    return [text for text, good in checks if not good]
