"""A copy of a control record counts when it is what `models` holds, signed for this log, and plays nothing again."""

from __future__ import annotations

import json
from functools import partial

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputRefused, ModelRefused
from engine.registry import rollout, signing
from engine.registry.rollout import Activate, Control

KEY = Ed25519PrivateKey.generate()
SIGN = partial(signing.sign, KEY)
VERIFY = partial(signing.verify, KEY.public_key())
LOG, DEPLOYMENT = "0123456789abcdef" * 2, "main"
BODY = Activate("3", "ab" * 32)


def record(
    k: int, *, log: str = LOG, deployment: str = DEPLOYMENT, body: rollout.Body = BODY, nonce: str = "",
    sign: rollout.Sign = SIGN,
) -> bytes:
    return rollout.make(k, log, deployment, body, "ann@host", "why not", nonce or f"{k:032x}", sign)


def check(copy: bytes, models: dict[int, bytes], followed: int = 0) -> Control | None:
    return rollout.check(copy, rollout.Models(models), LOG, DEPLOYMENT, VERIFY, {"activate": followed})


def by_verb(models: dict[int, bytes], log: str, deployment: str) -> dict[str, rollout.Control]:
    """The record of the highest k that holds, by verb."""
    return {control.verb: control for control in rollout.holding(rollout.Models(models), log, deployment, VERIFY)}


def newest(models: dict[int, bytes], log: str = LOG, deployment: str = DEPLOYMENT) -> int | None:
    found = by_verb(models, log, deployment)
    return found["activate"].k if found else None


def refusal(copy: bytes, models: dict[int, bytes], followed: int = 0) -> str:
    with pytest.raises(InputRefused) as refused:
        check(copy, models, followed)
    return refused.value.code


def test_a_copy_of_what_models_holds_is_followed() -> None:
    copy = record(2)
    control = check(copy, {2: copy})
    assert control is not None
    assert control == Control(2, DEPLOYMENT, "activate", BODY, "ann@host", "why not", f"{2:032x}", control.signature)
    assert msgspec.json.encode(control) == copy


def test_the_form_is_this() -> None:
    copy = json.loads(record(2))
    assert list(copy) == ["k", "deployment", "verb", "body", "by", "comment", "nonce", "signature"]
    assert copy["body"] == {"version": "3", "manifest": "ab" * 32}
    assert rollout.signed_bytes("id", "main", "activate", Activate("3", "00" * 32), "a@b", 'say "é"', "1" * 32) == (
        '["tocsin control 1","id","main","activate",{"version":"3","manifest":"' + "00" * 32 + '"},'
        '"a@b","say \\"é\\"","' + "1" * 32 + '"]'
    ).encode()


def test_repeated_and_overtaken_copies_are_ignored_not_refused() -> None:
    models = {2: record(2), 3: record(3)}
    assert check(models[3], models, followed=2) is not None
    assert check(models[3], models, followed=3) is None
    assert check(models[2], models, followed=3) is None


def test_another_deployments_copy_is_ignored_not_refused() -> None:
    models = {2: record(2, deployment="paper")}
    assert check(models[2], models) is None


def test_a_copy_that_models_doesnt_hold_is_refused() -> None:
    copy = record(2)
    assert refusal(copy, {}) == "control_unknown"
    assert refusal(copy, {2: record(2, nonce="f" * 32)}) == "control_unknown"
    assert refusal(copy, {3: copy}) == "control_unknown"


def test_k_inside_is_its_place() -> None:
    """An old record appended again at a later place says an earlier k: nothing there to follow."""
    models = {2: record(2), 3: record(3), 4: record(2)}
    assert check(models[4], models, followed=3) is None
    assert newest(models) == 3


def test_an_old_activation_cant_be_played_again() -> None:
    old = record(2)
    again = msgspec.json.encode(json.loads(old) | {"k": 4})
    models = {2: old, 3: record(3), 4: again}
    assert refusal(again, models, followed=3) == "control_replayed"
    assert newest(models) == 3


def test_a_nonce_counts_even_where_the_earlier_record_cant_be_read() -> None:
    models = {2: b'{"zzz": 1, "nonce": "' + b"a" * 32 + b'"}', 3: record(3, nonce="a" * 32)}
    assert refusal(models[3], models) == "control_replayed"


def test_a_record_of_another_log_deployment_or_key_is_refused() -> None:
    foreign_log = record(2, log="f" * 32)
    assert refusal(foreign_log, {2: foreign_log}) == "control_signature"
    foreign_key = record(2, sign=partial(signing.sign, Ed25519PrivateKey.generate()))
    assert refusal(foreign_key, {2: foreign_key}) == "control_signature"
    carried = json.loads(record(2, deployment="paper"))
    copy = msgspec.json.encode(carried | {"deployment": DEPLOYMENT})
    assert refusal(copy, {2: copy}) == "control_signature"


@pytest.mark.parametrize(("key", "value"), [
    ("body", {"version": "4", "manifest": "ab" * 32}), ("body", {"version": "3", "manifest": "ac" * 32}),
    ("verb", "pause"), ("by", "eve@host"), ("comment", ""), ("nonce", "e" * 32), ("signature", "AAAA"),
    ("signature", ""),
])
def test_altered_words_are_refused_even_if_models_holds_them(key: str, value: object) -> None:
    altered = msgspec.json.encode(json.loads(record(2)) | {key: value})
    assert refusal(altered, {2: altered}) == "control_signature"


def test_only_k_isnt_signed() -> None:
    """The append decides k: the same words at another place hold, once."""
    moved = msgspec.json.encode(json.loads(record(2)) | {"k": 7})
    control = check(moved, {7: moved})
    assert control is not None
    assert control.k == 7


def test_every_single_byte_matters() -> None:
    copy = record(2)
    for i in range(len(copy)):
        altered = copy[:i] + bytes([copy[i] ^ 1]) + copy[i + 1:]
        assert refusal_or_none(altered, {2: copy}) != "followed", (i, altered)


def refusal_or_none(copy: bytes, models: dict[int, bytes]) -> str:
    try:
        return "ignored" if check(copy, models) is None else "followed"
    except InputRefused as refused:
        return refused.code


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=80).map(str.encode) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(Control.__struct_fields__), inner),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode()))
def test_whatever_the_bytes_nothing_else_is_raised(payload: bytes) -> None:
    assert refusal_or_none(payload, {2: payload}) != "followed"
    newest({2: payload, 3: payload})


@pytest.mark.parametrize("payload", [
    b"", b"\xff", b"[]", b'{"k":"\xff"}', b'{"k":1,"body":' + b"[" * 100_000, b"[" * 100_000,
    record(2).replace(b"why", b"\xff\xff\xff"), record(2)[:-1], record(2).replace(b'"k":2', b'"k":2.5'),
    record(2).replace(b'"by"', b'"buy"'), record(2).replace(f"{2:032x}".encode(), b"0"),
], ids=["empty", "byte", "array", "utf8", "deep_body", "deep", "utf8_comment", "cut", "float_k", "field", "nonce"])
def test_what_isnt_a_record_is_refused(payload: bytes) -> None:
    assert refusal(payload, {2: payload}) == "control_malformed"


def signed_as_is(verb: str, body: object) -> bytes:
    words = (LOG, DEPLOYMENT, verb, msgspec.Raw(msgspec.json.encode(body)), "ann@host", "", "9" * 32)
    signature = SIGN(rollout.signed_bytes(*words))
    return msgspec.json.encode({
        "k": 2, "deployment": DEPLOYMENT, "verb": verb, "body": body, "by": "ann@host", "comment": "",
        "nonce": "9" * 32, "signature": signature,
    })


@pytest.mark.parametrize(("verb", "body"), [
    ("levitate", {"height": 3}), ("activate", {"version": "3", "manifest": "ab" * 32, "gently": True}),
])
def test_a_record_of_a_newer_engine_stops_this_one(verb: str, body: object) -> None:
    copy = signed_as_is(verb, body)
    with pytest.raises(ModelRefused) as refused:
        check(copy, {2: copy})
    assert refused.value.code == "control_newer"
    assert "levitate" in str(refused.value) or "activate" in str(refused.value)
    unsigned = copy.replace(b'"comment":""', b'"comment":"!"')
    assert refusal(unsigned, {2: unsigned}) == "control_signature"


def test_newest_skips_what_doesnt_hold() -> None:
    foreign = record(5, sign=partial(signing.sign, Ed25519PrivateKey.generate()))
    models = {2: record(2), 3: record(3), 4: record(4, deployment="paper"), 5: foreign, 6: b"garbage"}
    assert newest(models) == 3
    assert newest(models, deployment="paper") == 4
    assert newest(models, "f" * 32) is None
    assert newest({}) is None


def test_whoever_reads_the_copies_ends_at_the_same_bundle() -> None:
    """Copies of two activations that race, in every order they may reach a partition."""
    models = {2: record(2, body=Activate("1", "00" * 32)), 3: record(3, body=Activate("2", "11" * 32))}
    for order in ([2, 3], [3, 2], [2, 3, 2], [3, 3, 2], [2, 2, 3, 3]):
        followed, answers = 0, ""
        for k in order:
            control = check(models[k], models, followed)
            if control is not None:
                followed, answers = control.k, control.body.version
        assert (followed, answers) == (3, "2"), order


def test_verbs_are_followed_apart() -> None:
    """A later record of one verb doesn't hide an earlier one of another that this partition hasn't met yet."""
    settings = rollout.Settings(policy=rollout.PolicyRules(cooldown_s=5.0), weights={"lightgbm": 2.0})
    models = {2: record(2), 3: record(3, body=settings)}
    control = rollout.check(models[2], rollout.Models(models), LOG, DEPLOYMENT, VERIFY, {"settings": 3})
    assert control is not None
    assert control.verb == "activate"
    again = rollout.check(models[3], rollout.Models(models), LOG, DEPLOYMENT, VERIFY, {"activate": 2})
    assert again is not None
    assert again.body == settings
    assert rollout.check(models[3], rollout.Models(models), LOG, DEPLOYMENT, VERIFY, {"settings": 3}) is None
    found = by_verb(models, LOG, DEPLOYMENT)
    assert {verb: control.k for verb, control in found.items()} == {"activate": 2, "settings": 3}


def test_a_prepare_is_no_copy_to_follow() -> None:
    models = {2: record(2, body=rollout.Prepare("3", "ab" * 32))}
    assert check(models[2], models) is None


@pytest.mark.parametrize("body", [
    {"policy": {"hysteresis": 1.5}}, {"policy": {"cooldown_s": -1}}, {"policy": {"buys": 1}}, {"weights": {"a": -1}},
    {"policy": {"max_spread": 0}}, {"colour": "red"},
])
def test_settings_out_of_range_stop_the_engine(body: dict[str, object]) -> None:
    copy = signed_as_is("settings", body)
    with pytest.raises(ModelRefused) as refused:
        check(copy, {2: copy})
    assert refused.value.code == "control_newer"
