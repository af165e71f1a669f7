# What PyKMIP, as Debian has it, does with a server: argv are the configuration and
# the section with the certificate.
import sys

from kmip import enums
from kmip.core import enums as core_enums
from kmip.pie import client, exceptions, objects

config, version = sys.argv[1], sys.argv[2]


def refused(reason, fn, *args, **kw):
    try:
        fn(*args, **kw)
    except exceptions.KmipOperationFailure as e:
        assert e.reason == reason, e
        return
    raise AssertionError("not refused")


with client.ProxyKmipClient(config_file=config, config="client", kmip_version=getattr(enums.KMIPVersion, version)) as c:
    key = c.create(enums.CryptographicAlgorithm.AES, 256, name="aes-" + version, cryptographic_usage_mask=[
        enums.CryptographicUsageMask.ENCRYPT, enums.CryptographicUsageMask.DECRYPT])
    got = c.get(key)
    assert isinstance(got, objects.SymmetricKey) and len(got.value) == 32, got
    names = c.get_attribute_list(key)
    assert "Cryptographic Algorithm" in names and "State" in names, names
    uid, attrs = c.get_attributes(key, ["Name", "Cryptographic Length"])
    assert uid == key and len(attrs) == 2, attrs
    c.activate(key)
    refused(enums.ResultReason.PERMISSION_DENIED, c.destroy, key)
    if version not in ("KMIP_1_0", "KMIP_1_1"):
        params = {"block_cipher_mode": enums.BlockCipherMode.CBC, "padding_method": enums.PaddingMethod.PKCS5,
                  "cryptographic_algorithm": enums.CryptographicAlgorithm.AES}
        sealed, iv = c.encrypt(b"hello world", uid=key, cryptographic_parameters=params)
        assert iv and c.decrypt(sealed, uid=key, cryptographic_parameters=params, iv_counter_nonce=iv) == b"hello world"
    factory = __import__("kmip.core.factories.attributes", fromlist=["AttributeFactory"]).AttributeFactory()
    name = factory.create_attribute(enums.AttributeType.NAME, __import__("kmip.core.attributes", fromlist=["Name"]).Name.create("aes-" + version, enums.NameType.UNINTERPRETED_TEXT_STRING))
    assert c.locate(attributes=[name]) == [key]
    c.revoke(enums.RevocationReasonCode.CESSATION_OF_OPERATION, key)
    c.destroy(key)
    refused(enums.ResultReason.ITEM_NOT_FOUND, c.get, key)

    public, private = c.create_key_pair(enums.CryptographicAlgorithm.RSA, 2048, public_usage_mask=[enums.CryptographicUsageMask.VERIFY],
                                        private_usage_mask=[enums.CryptographicUsageMask.SIGN])
    assert isinstance(c.get(public), objects.PublicKey) and isinstance(c.get(private), objects.PrivateKey)
    if version not in ("KMIP_1_0", "KMIP_1_1"):
        c.activate(private)
        c.activate(public)
        how = {"padding_method": enums.PaddingMethod.PSS, "digital_signature_algorithm": enums.DigitalSignatureAlgorithm.RSASSA_PSS,
               "hashing_algorithm": enums.HashingAlgorithm.SHA_256, "cryptographic_algorithm": enums.CryptographicAlgorithm.RSA}
        signature = c.sign(b"message", private, how)
        assert c.signature_verify(b"message", signature, public, how) == enums.ValidityIndicator.VALID
        assert c.signature_verify(b"massage", signature, public, how) == enums.ValidityIndicator.INVALID

    secret = objects.SecretData(b"correct horse", enums.SecretDataType.PASSWORD, masks=[enums.CryptographicUsageMask.VERIFY], name="secret-" + version)
    sid = c.register(secret)
    assert c.get(sid).value == b"correct horse"
    c.destroy(sid)
    opaque = c.register(objects.OpaqueObject(b"\x00\x01", core_enums.OpaqueDataType.NONE, name="opaque-" + version))
    assert c.get(opaque).value == b"\x00\x01"
    raw = objects.SymmetricKey(enums.CryptographicAlgorithm.AES, 128, bytes(range(16)), masks=[enums.CryptographicUsageMask.ENCRYPT], name="raw-" + version)
    rid = c.register(raw)
    assert c.get(rid).value == bytes(range(16))
    if version not in ("KMIP_1_0", "KMIP_1_1"):
        mac_key = c.register(objects.SymmetricKey(enums.CryptographicAlgorithm.HMAC_SHA256, 256, bytes(32), masks=[enums.CryptographicUsageMask.MAC_GENERATE], name="mac-" + version))
        c.activate(mac_key)
        uid, mac = c.mac(b"data", mac_key, enums.CryptographicAlgorithm.HMAC_SHA256)
        assert len(mac) == 32
    refused(enums.ResultReason.ITEM_NOT_FOUND, c.get, "no-such-object")
