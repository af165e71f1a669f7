"""What python3-hvac, a client that others wrote, does with a new server.

    client.py URL AUDIT_FILE

The server is not initialised. Each function is one subject; an assertion that
fails ends the run.
"""
import json
import sys
import warnings

import hvac
from hvac import exceptions

warnings.simplefilter("ignore", DeprecationWarning)
url, audit_file = sys.argv[1:]
c = hvac.Client(url=url)


def refused(error, call, *args, **kwargs):
    """The call must raise this error; returns its text."""
    try:
        call(*args, **kwargs)
    except error as e:
        return str(e)
    raise AssertionError("%s was not refused" % call)


def seal():
    assert not c.sys.is_initialized()
    assert c.sys.read_health_status(method="HEAD").status_code == 501
    ini = c.sys.initialize(5, 3)
    keys = ini["keys"]
    assert len(keys) == 5 and len(ini["keys_base64"]) == 5
    assert c.sys.is_initialized() and c.sys.is_sealed()
    assert c.sys.read_health_status(method="HEAD").status_code == 503
    assert c.sys.submit_unseal_key(keys[0])["progress"] == 1
    assert c.sys.submit_unseal_key(reset=True)["progress"] == 0
    # Hex and base64 may be mixed.
    c.sys.submit_unseal_keys([keys[4], ini["keys_base64"][1], keys[2]])
    assert not c.sys.is_sealed()
    assert c.sys.read_seal_status()["n"] == 5
    # A round of wrong keys fails and begins again.
    c.token = ini["root_token"]
    assert c.is_authenticated()
    c.sys.seal()
    assert c.sys.is_sealed()
    wrong = ["00" * 32 + "%02x" % i for i in (1, 2, 3)]
    c.sys.submit_unseal_key(wrong[0])
    c.sys.submit_unseal_key(wrong[1])
    refused(exceptions.InvalidRequest, c.sys.submit_unseal_key, wrong[2])
    assert c.sys.read_seal_status()["progress"] == 0
    c.sys.submit_unseal_keys(keys[:3])
    assert not c.sys.is_sealed()
    assert c.sys.read_leader_status()["ha_enabled"] is False
    assert c.sys.read_health_status(method="GET")["sealed"] is False
    return keys


def keys_and_rekey(keys):
    term = c.sys.get_encryption_key_status()["data"]["term"]
    c.sys.rotate_encryption_key()
    assert c.sys.get_encryption_key_status()["data"]["term"] == term + 1
    start = c.sys.start_rekey(3, 2)
    assert c.sys.read_rekey_progress()["started"]
    done = c.sys.rekey_multi(keys[:3], nonce=start["nonce"])
    assert done["complete"] and len(done["keys"]) == 3
    start = c.sys.start_rekey(5, 3)
    c.sys.cancel_rekey()
    assert not c.sys.read_rekey_progress()["started"]
    root = c.sys.start_root_token_generation()
    assert root["otp"] and c.sys.read_root_generation_progress()["started"]
    c.sys.generate_root(done["keys"][0], root["nonce"])
    last = c.sys.generate_root(done["keys"][1], root["nonce"])
    assert last["complete"] and last["encoded_root_token"]
    c.sys.start_root_token_generation()
    c.sys.cancel_root_generation()
    assert not c.sys.read_root_generation_progress()["started"]


def mounts():
    # The content stands at the top and below data.
    top = c.sys.list_mounted_secrets_engines()
    assert top["sys/"]["type"] == "system" and top["data"]["sys/"]["type"] == "system"
    c.sys.enable_secrets_engine("kv", path="one", options={"version": "1"}, description="first")
    c.sys.enable_secrets_engine("kv", path="two", options={"version": "2"})
    refused(exceptions.InvalidRequest, c.sys.enable_secrets_engine, "kv", path="two")
    c.sys.tune_mount_configuration("one", default_lease_ttl="1h", max_lease_ttl="2h", description="changed")
    assert c.sys.read_mount_configuration("one")["data"]["default_lease_ttl"] == 3600
    assert c.sys.retrieve_mount_option("two", "version") == "2"
    c.sys.enable_secrets_engine("kv", path="from")
    c.secrets.kv.v1.create_or_update_secret("a", {"b": "c"}, mount_point="from")
    c.sys.move_backend("from", "to")
    assert c.secrets.kv.v1.read_secret("a", mount_point="to")["data"] == {"b": "c"}
    c.sys.disable_secrets_engine("to")
    refused(exceptions.InvalidPath, c.secrets.kv.v1.read_secret, "a", mount_point="to")
    assert c.sys.list_auth_methods()["token/"]["type"] == "token"
    assert c.sys.read_auth_method_tuning("token")["data"]["default_lease_ttl"] > 0


def policies():
    text = 'path "one/*" { capabilities = ["read"] }'
    c.sys.create_or_update_policy("reader", text)
    c.sys.create_or_update_policy("asdict", {"path": {"one/*": {"capabilities": ["list"]}}})
    assert c.sys.read_policy("reader")["data"]["rules"] == text
    assert {"reader", "asdict", "default", "root"} == set(c.sys.list_policies()["data"]["policies"])
    c.sys.delete_policy("asdict")
    refused(exceptions.InvalidPath, c.sys.read_policy, "asdict")
    assert c.sys.get_capabilities(["one/a", "two/a"])["data"]["one/a"] == ["root"]


def tokens():
    t = c.auth.token
    auth = t.create(policies=["reader"], ttl="1h", meta={"who": "test"}, display_name="hvac")["auth"]
    assert auth["client_token"].startswith("hvs.") and auth["renewable"] and auth["policies"] == ["default", "reader"]
    assert t.lookup(auth["client_token"])["data"]["meta"] == {"who": "test"}
    assert t.lookup_accessor(auth["accessor"])["data"]["display_name"] == "token-hvac"
    assert auth["accessor"] in t.list_accessors()["data"]["keys"]
    assert t.renew(auth["client_token"], increment="2h")["auth"]["lease_duration"] == 7200
    assert t.renew_accessor(auth["accessor"])["auth"]["accessor"] == auth["accessor"]
    caps = c.sys.get_capabilities(["one/a"], token=auth["client_token"])
    assert caps["data"]["one/a"] == ["read"] == caps["data"]["capabilities"]

    mine = hvac.Client(url=url, token=auth["client_token"])
    assert mine.auth.token.lookup_self()["data"]["id"] == auth["client_token"]
    assert mine.auth.token.renew_self()["auth"]["client_token"] == auth["client_token"]
    refused(exceptions.Forbidden, mine.secrets.kv.v1.create_or_update_secret, "a", {"x": "y"}, mount_point="one")
    mine.auth.token.revoke_self()
    assert not mine.is_authenticated()
    refused(exceptions.Forbidden, mine.auth.token.lookup_self)

    t.create_or_update_role("role", allowed_policies=["reader"], orphan=True, renewable=False)
    assert t.list_roles()["data"]["keys"] == ["role"]
    assert t.read_role("role")["data"]["allowed_policies"] == ["reader"]
    made = t.create(role_name="role", policies=["reader"])["auth"]
    assert made["orphan"] and not made["renewable"]
    t.delete_role("role")
    refused(exceptions.InvalidPath, t.read_role, "role")

    parent = t.create(policies=["root"])["auth"]["client_token"]
    child = hvac.Client(url=url, token=parent).auth.token.create(policies=["reader"])["auth"]["client_token"]
    t.revoke_and_orphan_children(parent)
    assert t.lookup(child)["data"]["orphan"]
    t.revoke(child)
    refused(exceptions.Forbidden, t.lookup, child)
    gone = t.create(policies=["reader"])["auth"]
    t.revoke_accessor(gone["accessor"])
    refused(exceptions.Forbidden, t.lookup, gone["client_token"])
    once = t.create(policies=["default"], num_uses=1)["auth"]["client_token"]
    hvac.Client(url=url, token=once).auth.token.lookup_self()
    refused(exceptions.Forbidden, hvac.Client(url=url, token=once).auth.token.lookup_self)
    batch = t.create(policies=["reader"], type="batch")["auth"]["client_token"]
    assert batch.startswith("hvb.")
    given = t.create(id="mine", policies=["reader"])["auth"]["client_token"]
    assert given == "mine"
    t.tidy()


def kv1():
    kv = c.secrets.kv.v1
    kv.create_or_update_secret("a/b", {"x": "1", "ttl": "30m"}, mount_point="one")
    got = kv.read_secret("a/b", mount_point="one")
    # consul-template renews by the key ttl.
    assert got["data"] == {"x": "1", "ttl": "30m"} and got["lease_duration"] == 1800
    for member in ("request_id", "lease_id", "renewable", "wrap_info", "warnings", "auth", "mount_type"):
        assert member in got, member
    assert kv.list_secrets("", mount_point="one")["data"]["keys"] == ["a/"]
    kv.delete_secret("a/b", mount_point="one")
    refused(exceptions.InvalidPath, kv.read_secret, "a/b", mount_point="one")
    # An empty list is 404 without a word.
    assert refused(exceptions.InvalidPath, kv.list_secrets, "", mount_point="one").startswith("None")


def kv2():
    kv = c.secrets.kv.v2
    kv.configure(max_versions=4, mount_point="two")
    assert kv.read_configuration(mount_point="two")["data"]["max_versions"] == 4
    assert kv.create_or_update_secret("a", {"x": "1"}, cas=0, mount_point="two")["data"]["version"] == 1
    refused(exceptions.InvalidRequest, kv.create_or_update_secret, "a", {"x": "2"}, cas=0, mount_point="two")
    kv.create_or_update_secret("a", {"x": "2", "y": {"z": [1, None, True]}}, mount_point="two")
    kv.patch("a", {"x": "3"}, mount_point="two")
    got = kv.read_secret_version("a", mount_point="two")["data"]
    assert got["data"] == {"x": "3", "y": {"z": [1, None, True]}} and got["metadata"]["version"] == 3
    assert kv.read_secret_version("a", version=1, mount_point="two")["data"]["data"] == {"x": "1"}
    kv.delete_latest_version_of_secret("a", mount_point="two")
    # A deleted version is 404 with a body.
    text = refused(exceptions.InvalidPath, kv.read_secret_version, "a", mount_point="two")
    raw = c.session.get(url + "/v1/two/data/a", headers={"X-Vault-Token": c.token})
    assert raw.status_code == 404 and raw.json()["data"]["data"] is None and raw.json()["data"]["metadata"]["deletion_time"], text
    kv.undelete_secret_versions("a", [3], mount_point="two")
    kv.delete_secret_versions("a", [1], mount_point="two")
    kv.destroy_secret_versions("a", [2], mount_point="two")
    versions = kv.read_secret_metadata("a", mount_point="two")["data"]["versions"]
    assert versions["1"]["deletion_time"] and versions["2"]["destroyed"] and not versions["3"]["deletion_time"]
    kv.update_metadata("a", max_versions=7, cas_required=True, mount_point="two")
    assert kv.read_secret_metadata("a", mount_point="two")["data"]["cas_required"]
    assert kv.list_secrets("", mount_point="two")["data"]["keys"] == ["a"]
    # A path of version 1 on version 2 is 404 with a warning.
    raw = c.session.get(url + "/v1/two/a", headers={"X-Vault-Token": c.token})
    assert raw.status_code == 404 and "versioned K/V" in raw.json()["warnings"][0], raw.text
    kv.delete_metadata_and_all_versions("a", mount_point="two")
    refused(exceptions.InvalidPath, kv.read_secret_metadata, "a", mount_point="two")


def generic():
    c.write("one/generic", a="b")
    assert c.read("one/generic")["data"] == {"a": "b"}
    assert c.list("one")["data"]["keys"] == ["generic"]
    c.delete("one/generic")
    assert c.read("one/generic") is None
    assert c.list("one") is None
    c.write("cubbyhole/mine", a="b")
    assert c.read("cubbyhole/mine")["data"] == {"a": "b"}


def wrapping():
    c.write("one/w", a="b")
    wrapped = c.read("one/w", wrap_ttl="60")["wrap_info"]
    assert wrapped["ttl"] == 60 and wrapped["creation_path"] == "one/w"
    assert c.sys.unwrap(wrapped["token"])["data"] == {"a": "b"}
    refused(exceptions.InvalidRequest, c.sys.unwrap, wrapped["token"])
    # The wrapping token as the client's own.
    wrapped = c.auth.token.create(policies=["reader"], wrap_ttl="1m")["wrap_info"]
    assert wrapped["wrapped_accessor"]
    opened = hvac.Client(url=url, token=wrapped["token"]).sys.unwrap()
    assert opened["auth"]["accessor"] == wrapped["wrapped_accessor"]


def leases():
    # Login tokens have leases; here there are those of tokens alone.
    assert c.sys.list_leases("auth/token/")["data"]["keys"]
    auth = c.auth.token.create(policies=["reader"])["auth"]
    c.sys.revoke_prefix("auth/token/create")
    refused(exceptions.Forbidden, c.auth.token.lookup, auth["client_token"])
    refused(exceptions.InvalidRequest, c.sys.read_lease, "no/such/lease")


def audit():
    assert "file/" not in c.sys.list_enabled_audit_devices()["data"]
    c.sys.enable_audit_device("file", options={"file_path": audit_file}, description="hvac's")
    assert c.sys.list_enabled_audit_devices()["data"]["file/"]["options"]["file_path"] == audit_file
    hashed = c.sys.calculate_hash("file", c.token)["data"]["hash"]
    c.write("one/audited", secret="very secret")
    with open(audit_file) as f:
        text = f.read()
    records = [json.loads(line) for line in text.splitlines()]
    mine = [r for r in records if r["request"]["path"] == "one/audited"]
    assert [r["type"] for r in mine] == ["request", "response"]
    # The hash of audit-hash is that of the records.
    assert all(r["auth"]["client_token"] == hashed for r in mine)
    assert c.sys.calculate_hash("file", "very secret")["data"]["hash"] == mine[0]["request"]["data"]["secret"]
    assert c.token not in text and "very secret" not in text
    c.sys.disable_audit_device("file")
    assert "file/" not in c.sys.list_enabled_audit_devices()["data"]


def old_forms():
    """The client's methods of before, on legacy paths."""
    assert c.ha_status["ha_enabled"] is False
    assert "one/" in c.list_secret_backends()["data"]
    made = c.create_token(policies=["reader"], lease="1h")["auth"]
    assert c.lookup_token(made["client_token"])["data"]["policies"] == ["default", "reader"]
    c.renew_token(made["client_token"])
    c.revoke_token(made["accessor"], accessor=True)
    c.set_policy("old", 'path "one/*" { policy = "write" }')
    assert "old" in c.list_policies()
    c.delete_policy("old")


keys = seal()
keys_and_rekey(keys)
for subject in (mounts, policies, tokens, kv1, kv2, generic, wrapping, audit, old_forms, leases):
    subject()
    print(subject.__name__)
