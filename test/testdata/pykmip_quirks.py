# What PyKMIP cannot read of answers as the specification has them, and can with the role's
# client=pykmip: argv are the configuration, the version, and "reads" or "fails".
import struct
import sys

from kmip import enums
from kmip.pie import client, objects

config, version, reads = sys.argv[1], sys.argv[2], sys.argv[3] == "reads"


def tried(what, fn, *args):
    try:
        out = fn(*args)
    except (NotImplementedError, ValueError, TypeError, AttributeError, struct.error) as e:
        assert not reads, (what, repr(e))
        return None
    assert reads, (what, "was read")
    return out


with client.ProxyKmipClient(config_file=config, config="client", kmip_version=getattr(enums.KMIPVersion, version)) as c:
    key = c.create(enums.CryptographicAlgorithm.AES, 256)
    new = c.rekey(key)  # links the two
    got = tried("attributes", c.get_attributes, new)
    assert got is None or "State" in [a.attribute_name.value for a in got[1]], got
    public, private = c.create_key_pair(enums.CryptographicAlgorithm.EC, 256, public_usage_mask=[enums.CryptographicUsageMask.VERIFY],
                                        private_usage_mask=[enums.CryptographicUsageMask.SIGN])
    got = tried("private key", c.get, private)
    assert got is None or isinstance(got, objects.PrivateKey), got
    assert isinstance(c.get(public), objects.PublicKey)
