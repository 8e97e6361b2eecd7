"""A version is there whole, signed and unaltered, or it is refused with the code of what is wrong."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.cli import main
from engine.errors import ModelRefused, UsageError
from engine.instruments import Instruments
from engine.manifest import FORMAT, Calibration, Expert, Features, Golden, Manifest, Moments, Policy, Training
from engine.registry import signing
from engine.registry.bundle import check_features, check_instruments, load_bundle
from engine.registry.store import Registry, encode
from engine.runtimes.ensemble import Ensemble
from engine.runtimes.forest.layout import Forest
from engine.runtimes.forest.runtime import ForestRuntime

RULES = {"ZAR*": {"scale": 5}, "*JPY": {"scale": 3}}
FILES = {"one.forest": bytes(range(256)) * 8, "two.forest": b"\x00" * 1000, "empty.txt": b""}


def expert(name: str, file: str, idx: int = 1) -> Expert:
    identity = Calibration([1.0, 1.0, 1.0], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [0.0, 0.0, 0.0])
    return Expert(name, idx, "forest", file, 1.0, identity, 0.0, {"depth": 3})


def manifest(**changes: Any) -> Manifest:
    blank = Manifest(
        format=FORMAT, version="", created="2024-05-01T12:00:00+00:00", classes=["neutral", "buy", "sell"],
        features=Features(["a_s", "b_s"], "0123456789abcdef"), moments=Moments(),
        instruments=Instruments(RULES).to_dict(),
        experts=[expert("one", "one.forest"), expert("two", "two.forest", 2)], policy=Policy(0.1, -0.1),
        training=Training(1, 2, ["EURUSD"], 10, 5, "0" * 64), metrics={"log_loss": 1.0}, libraries={"numpy": "2"},
        golden=Golden([[0.0, None]], [[1.0, 0.0, 0.0]]), files={},
    )
    return msgspec.structs.replace(blank, **changes)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return signing.generate(tmp_path / "keys")


@pytest.fixture
def private(keys: tuple[Path, Path]) -> Ed25519PrivateKey:
    return signing.load_private(keys[0])


@pytest.fixture
def registry(tmp_path: Path, keys: tuple[Path, Path]) -> Registry:
    return Registry(tmp_path / "registry", trust=keys[1])


@pytest.fixture
def published(registry: Registry, private: Ed25519PrivateKey) -> Registry:
    """A registry with version 1."""
    registry.publish(manifest(), FILES, private)
    return registry


def refusal(check: Callable[[str], object], name: str = "1") -> str:
    with pytest.raises(ModelRefused) as refused:
        check(name)
    assert refused.value.hint
    return refused.value.code


# ---- the good way


def test_published_bundle_reads_back(registry: Registry, private: Ed25519PrivateKey) -> None:
    assert registry.versions() == []
    assert registry.publish(manifest(), FILES, private) == "1"
    assert registry.publish(manifest(created="later"), FILES, private) == "2"
    assert registry.versions() == ["1", "2"]
    contents = registry.read("1")
    assert contents.files == FILES
    assert contents.manifest == manifest(
        version="1", files={name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    )
    assert contents.digest == hashlib.sha256((registry.folder / "1" / "manifest.json").read_bytes()).hexdigest()
    assert registry.verify("1") == registry.manifest("1") == contents.manifest
    assert registry.manifest("2").created == "later"
    assert registry.status("1") == "ok"
    assert sorted(p.name for p in registry.folder.iterdir()) == ["1", "2"]


def test_instrument_rules_keep_their_order(published: Registry) -> None:
    assert list(published.manifest("1").instruments["rules"]) == ["ZAR*", "*JPY"]


def test_versions_are_numbers_in_order(published: Registry) -> None:
    for name in ("10", "9", "03", "0", "x", "1.bak", ".tmp-0", "-1", "1" * 19):
        (published.folder / name).mkdir()
    assert published.versions() == ["1", "9", "10"]


def test_the_signature_is_the_plain_one(published: Registry, private: Ed25519PrivateKey) -> None:
    """So that other tools can check it too."""
    folder = published.folder / "1"
    private.public_key().verify((folder / "manifest.sig").read_bytes(), (folder / "manifest.json").read_bytes())


def test_aliases(published: Registry, private: Ed25519PrivateKey) -> None:
    published.publish(manifest(), FILES, private)
    assert published.aliases() == {}
    published.set_alias("champion", "1")
    published.set_alias("champion", "2")
    published.set_alias("calm", "champion")
    published.set_alias("champion", "1")
    assert published.aliases() == {"calm": "2", "champion": "1"}
    assert published.resolve("champion") == "1"
    assert published.resolve("2") == "2"
    assert published.verify("calm").version == "2"
    assert refusal(lambda version: published.set_alias("x", version), "7") == "not_found"
    for name in ("3", "", "../x", "Champion", "a/b", ".x"):
        with pytest.raises(UsageError) as refused:
            published.set_alias(name, "1")
        assert refused.value.code == "alias"


@pytest.mark.parametrize("name", [
    "2", "champion", "", "..", "../registry/1", "1/", "01", "aliases", "/etc", "1\n", "\N{ARABIC-INDIC DIGIT ONE}",
])
def test_what_isnt_there_is_not_found(published: Registry, name: str) -> None:
    assert refusal(published.resolve, name) == "not_found"
    assert refusal(published.read, name) == "not_found"


@pytest.mark.parametrize("content", [b"", b"7", b"../1", b"\xff", b"1 2"])
def test_an_alias_that_names_nothing_is_not_found(published: Registry, content: bytes) -> None:
    published.set_alias("champion", "1")
    (published.folder / "aliases" / "champion").write_bytes(content)
    assert refusal(published.read, "champion") == "not_found"


def test_an_empty_registry_says_so(registry: Registry) -> None:
    assert registry.aliases() == {}
    assert refusal(registry.read, "champion") == "not_found"


# ---- who is trusted


def test_a_bundle_of_another_key_is_refused(published: Registry, tmp_path: Path) -> None:
    other_private, other_public = signing.generate(tmp_path / "other")
    foreign = Registry(published.folder, trust=other_public)
    assert refusal(foreign.read) == refusal(foreign.manifest) == "signature"
    assert foreign.status("1") == "signature"
    foreign.publish(manifest(), FILES, signing.load_private(other_private))
    assert (foreign.status("2"), published.status("2")) == ("ok", "signature")


def test_a_key_inside_the_registry_isnt_trusted(published: Registry, tmp_path: Path) -> None:
    """Somebody who can write to the registry signs anew and leaves the key there."""
    other_private, other_public = signing.generate(tmp_path / "other")
    folder = published.folder / "1"
    altered = folder.joinpath("manifest.json").read_bytes().replace(b"2024", b"2025")
    (folder / "manifest.json").write_bytes(altered)
    (folder / "manifest.sig").write_bytes(signing.sign(signing.load_private(other_private), altered))
    shutil.copy(other_public, published.folder / "public.pem")
    shutil.copy(other_public, folder / "public.pem")
    assert refusal(published.read) == "signature"


def test_without_a_trusted_key_nothing_is_believed(published: Registry, tmp_path: Path) -> None:
    for trust, code in ((None, "no_trust"), (tmp_path / "none.pem", "no_public_key")):
        blind = Registry(published.folder, trust=trust)
        with pytest.raises(UsageError) as refused:
            blind.read("1")
        assert refused.value.code == code
        assert blind.status("1") == code
        assert blind.versions() == ["1"]


def test_publishing_under_an_untrusted_key_is_refused(published: Registry) -> None:
    with pytest.raises(UsageError) as refused:
        published.publish(manifest(), FILES, Ed25519PrivateKey.generate())
    assert refused.value.code == "key_pair"
    assert sorted(p.name for p in published.folder.iterdir()) == ["1"]


# ---- altered, half-written, misplaced


def test_every_sampled_byte_of_every_file_matters(published: Registry) -> None:
    rng = random.Random(1)
    for path in sorted((published.folder / "1").iterdir()):
        original = path.read_bytes()
        expected = "altered" if path.name in FILES else "signature"
        places = {0, len(original) - 1, *rng.choices(range(len(original)), k=60)} if original else set()
        for i in places:
            path.write_bytes(original[:i] + bytes([original[i] ^ (1 << rng.randrange(8))]) + original[i + 1:])
            assert refusal(published.read) == expected, (path.name, i)
        for content in (original + b"\0", original[:-1] if original else b"x", original[: len(original) // 2] or b"x"):
            path.write_bytes(content)
            assert refusal(published.read) == expected, path.name
        path.write_bytes(original)
        assert published.status("1") == "ok"


@pytest.mark.parametrize(("name", "code"), [
    ("manifest.json", "half_written"), ("manifest.sig", "unsigned"), ("one.forest", "half_written"),
    ("empty.txt", "half_written"),
])
def test_a_missing_file_is_named(published: Registry, name: str, code: str) -> None:
    (published.folder / "1" / name).unlink()
    with pytest.raises(ModelRefused, match=name) as refused:
        published.read("1")
    assert refused.value.code == code


def test_an_empty_folder_is_half_written(published: Registry) -> None:
    (published.folder / "2").mkdir()
    assert refusal(published.read, "2") == "half_written"


def test_a_bundle_keeps_its_number(published: Registry) -> None:
    shutil.copytree(published.folder / "1", published.folder / "5")
    assert refusal(published.read, "5") == "version_mismatch"
    assert published.status("1") == "ok"


def test_unlisted_files_are_never_read(published: Registry) -> None:
    (published.folder / "1" / "three.forest").write_bytes(b"surprise")
    assert set(published.read("1").files) == set(FILES)


def sign_raw(registry: Registry, private: Ed25519PrivateKey, content: bytes) -> None:
    """What an erring trainer with the right key might have signed."""
    (registry.folder / "1" / "manifest.json").write_bytes(content)
    (registry.folder / "1" / "manifest.sig").write_bytes(signing.sign(private, content))


@pytest.mark.parametrize("name", [
    "../outside", "/etc/hostname", "a/b", "..", ".", "", ".hidden", "manifest.json", "manifest.sig", "a\0b", "x" * 200,
    "a\n",
])
def test_a_file_name_that_leaves_the_folder_is_refused(
    published: Registry, private: Ed25519PrivateKey, name: str
) -> None:
    (published.folder / "outside").write_bytes(b"")
    digests = {name: hashlib.sha256(b"").hexdigest(), **published.manifest("1").files}
    sign_raw(published, private, encode(manifest(version="1", files=digests)))
    assert refusal(published.read) == "format"
    assert refusal(lambda _: published.publish(manifest(), {name: b"", **FILES}, private)) == "format"
    assert published.versions() == ["1"]


def test_an_expert_without_a_signed_file_is_refused(published: Registry, private: Ed25519PrivateKey) -> None:
    (published.folder / "1" / "three.forest").write_bytes(b"unlisted")
    experts = [expert("three", "three.forest")]
    sign_raw(published, private, encode(manifest(version="1", experts=experts, files=published.manifest("1").files)))
    assert refusal(published.read) == "format"
    assert refusal(lambda _: published.publish(manifest(experts=experts), FILES, private)) == "format"


@pytest.mark.parametrize("change", [
    lambda content: content.replace(b'"format":1', b'"format":2'),
    lambda content: content.replace(b'"format":1', b'"format":2').replace(b'"policy"', b'"policies"'),
    lambda content: content.replace(b'"policy"', b'"policies"'),
    lambda content: content.replace(b'"format":1,', b""),
    lambda content: content[:-1],
    lambda content: b"[]",
    lambda content: b"",
], ids=["format", "newer", "field", "no_format", "cut", "array", "empty"])
def test_a_manifest_of_another_form_is_refused(
    published: Registry, private: Ed25519PrivateKey, change: Callable[[bytes], bytes]
) -> None:
    sign_raw(published, private, change((published.folder / "1" / "manifest.json").read_bytes()))
    assert refusal(published.read) == "format"


def test_what_couldnt_be_read_back_isnt_published(registry: Registry, private: Ed25519PrivateKey) -> None:
    broken = manifest(policy=Policy(float("nan"), 0.0))
    assert refusal(lambda _: registry.publish(broken, FILES, private)) == "format"
    assert list(registry.folder.iterdir()) == []


def test_links_and_pipes_are_refused(published: Registry, tmp_path: Path) -> None:
    for name in ("one.forest", "manifest.json", "manifest.sig"):
        path = published.folder / "1" / name
        kept = tmp_path / name
        path.rename(kept)
        path.symlink_to(kept)
        assert refusal(published.read) == "altered", name
        path.unlink()
        os.mkfifo(path)
        assert refusal(published.read) == "altered", name
        path.unlink()
        path.mkdir()
        assert refusal(published.read) == "altered", name
        path.rmdir()
        kept.rename(path)
    assert published.status("1") == "ok"
    (published.folder / "1").rename(tmp_path / "elsewhere")
    (published.folder / "1").symlink_to(tmp_path / "elsewhere")
    assert refusal(published.read) == "altered"
    (published.folder / "1").unlink()
    (published.folder / "1").write_bytes(b"a file")
    assert refusal(published.read) == "altered"


# ---- a bundle that answers


def forest(tilt: float) -> Forest:
    """One tree over two columns: a_s >= 0.5 speaks for buy, else for sell; NaN goes left."""
    def nothing(dtype: type) -> Any:
        return np.zeros(0, dtype)

    return Forest(
        n_features=2, feature=np.zeros(1, np.int32), threshold=np.array([0.5], np.float32),
        left=np.array([-1], np.int32), right=np.array([-2], np.int32), nan_right=np.zeros(1, np.bool_),
        root=np.zeros(1, np.int32), tree_class=np.array([-1], np.int32),
        value=np.array([[0.0, -tilt, tilt], [0.0, tilt, -tilt]]), base=np.zeros(3),
        slope_start=nothing(np.int32), slope_feature=nothing(np.int32), slope=nothing(np.float64),
        fallback=nothing(np.float64), level_start=nothing(np.int32), cover=nothing(np.float64),
    )


ROWS: list[list[float | None]] = [[0.0, 1.0], [1.0, None], [None, None]]


def answering() -> tuple[Manifest, dict[str, bytes]]:
    """A manifest with its golden rows, and its two forests."""
    forests = {"one": forest(1.0), "two": forest(0.25)}
    plain = manifest()
    rows = np.array([[np.nan if x is None else x for x in row] for row in ROWS], np.float32)
    probabilities = Ensemble([ForestRuntime(forests)], plain.experts).predict_proba(rows)
    golden = Golden(ROWS, probabilities.tolist())
    return msgspec.structs.replace(plain, golden=golden), {f"{k}.forest": f.to_bytes() for k, f in forests.items()}


def test_load_gives_an_ensemble_that_answers(registry: Registry, private: Ed25519PrivateKey) -> None:
    version = registry.publish(*answering(), private)
    registry.set_alias("champion", version)
    ensemble = registry.load("champion")
    answers = ensemble.predict_proba(np.array([[0.9, 0.0], [0.1, 0.0]], np.float32))
    assert answers.shape == (2, 3)
    assert answers[0, 1] > 0.5 > answers[0, 2]
    assert answers[1, 2] > 0.5 > answers[1, 1]
    bundle = load_bundle(registry, version)
    assert (bundle.version, bundle.manifest) == (version, registry.verify(version))
    assert load_bundle(registry, version, bundle.digest).digest == registry.read(version).digest
    assert refusal(lambda name: load_bundle(registry, name, "0" * 64)) == "other_bundle"


def shifted(golden: Golden, by: float) -> Golden:
    (first, *rest), *others = golden.probabilities
    return Golden(golden.rows, [[first + by, *rest], *others])


def overflowing(one: Expert) -> Expert:
    """Finite numbers that would give NaN."""
    calibration = msgspec.structs.replace(one.calibration, matrix=[[1e308] * 3] * 3)
    return msgspec.structs.replace(one, calibration=calibration)


@pytest.mark.parametrize(("change", "code"), [
    (lambda m: {"golden": shifted(m.golden, 1e-5)}, "golden"),
    (lambda m: {"golden": Golden([], [])}, "golden"),
    (lambda m: {"experts": [overflowing(m.experts[0])]}, "calibration"),
    (lambda m: {"golden": Golden(m.golden.rows, m.golden.probabilities[:2])}, "format"),
    (lambda m: {"golden": Golden([row[:1] for row in m.golden.rows], m.golden.probabilities)}, "format"),
    (lambda m: {"classes": ["sell", "neutral", "buy"]}, "format"),
    (lambda m: {"experts": [msgspec.structs.replace(m.experts[0], runtime="oracle")]}, "runtime_unknown"),
    (lambda m: {"experts": list(reversed(m.experts))}, "ok"),
    (lambda m: {"golden": shifted(m.golden, 5e-7)}, "ok"),
])
def test_a_bundle_that_would_answer_otherwise_is_refused(
    registry: Registry, private: Ed25519PrivateKey, change: Callable[[Manifest], dict[str, Any]], code: str
) -> None:
    good, files = answering()
    registry.publish(msgspec.structs.replace(good, **change(good)), files, private)
    if code == "ok":
        registry.load("1")
    else:
        assert refusal(registry.load) == code


def test_a_signed_file_that_isnt_a_forest_is_refused(registry: Registry, private: Ed25519PrivateKey) -> None:
    good, files = answering()
    registry.publish(good, files | {"two.forest": b"PK not really"}, private)
    assert registry.status("1") == "ok"
    assert refusal(registry.load) == "forest_damaged"


def test_altered_forests_never_answer(registry: Registry, private: Ed25519PrivateKey) -> None:
    registry.publish(*answering(), private)
    path = registry.folder / "1" / "two.forest"
    path.write_bytes(forest(-0.25).to_bytes())
    assert refusal(registry.load) == "altered"


def test_features_must_be_those_of_the_training() -> None:
    check_features(manifest(), [], "0123456789abcdef")
    check_instruments(manifest(), Instruments(RULES))
    with pytest.raises(ModelRefused, match="0123456789abcdef, this engine computes fedcba") as refused:
        check_features(manifest(), [], "fedcba9876543210")
    assert refused.value.code == "features_differ"


def test_moments_must_be_known() -> None:
    with pytest.raises(ModelRefused, match="bar:1m") as refused:
        check_features(msgspec.structs.replace(manifest(), moments=Moments(kind="bar:2m")), [], "0123456789abcdef")
    assert refused.value.code == "moments_unknown"


@pytest.mark.parametrize(("rules", "closed", "words"), [
    ({"ZAR*": {"scale": 4}, "*JPY": {"scale": 3}}, False, r"'ZAR\*' .*5.* in training, 'ZAR\*' .*4"),
    ({"ZAR*": {"scale": 5}}, False, r"'\*JPY' .* in training, no such rule here"),
    ({"*JPY": {"scale": 3}, "ZAR*": {"scale": 5}}, False, r"'ZAR\*' .* in training, '\*JPY'"),
    ({"ZAR*": {"scale": 5}, "*JPY": {"scale": 3}, "*": {}}, False, r"no such rule in training, '\*'"),
    ({"ZAR*": {"scale": 5, "crossed": "keep"}, "*JPY": {"scale": 3}}, False, "keep"),
    ({"ZAR*": {"scale": 5}, "*JPY": {"scale": 3}}, True, "closed = False in training, True here"),
])
def test_prices_must_be_counted_as_in_training(rules: dict[str, Any], closed: bool, words: str) -> None:
    with pytest.raises(ModelRefused, match=words) as refused:
        check_instruments(manifest(), Instruments(rules, closed=closed))
    assert refused.value.code == "instruments_differ"


# ---- the verb


@pytest.fixture
def tocsin(
    registry: Registry, keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[int, str, str]]:
    """`tocsin models …` with HOME in the test's folder: (exit code, stdout, stderr)."""
    for variable in [name for name in os.environ if name.startswith("TOCSIN_")]:
        monkeypatch.delenv(variable)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(["models", *arguments, "--home", str(tmp_path)])
        return code, *capsys.readouterr()

    return call


Tocsin = Callable[..., tuple[int, str, str]]


def test_list_says_what_is_there(registry: Registry, private: Ed25519PrivateKey, tocsin: Tocsin) -> None:
    assert tocsin("list", "--json") == (0, "[]\n", "")
    assert "tocsin train" in tocsin("list")[1]
    for _ in range(3):
        registry.publish(*answering(), private)
    registry.set_alias("champion", "2")
    (registry.folder / "3" / "manifest.sig").unlink()
    code, out, err = tocsin("list", "--json")
    assert (code, err) == (0, "")
    rows = msgspec.json.decode(out)
    assert [(row["version"], row["aliases"], row["status"]) for row in rows] == [
        ("1", [], "ok"), ("2", ["champion"], "ok"), ("3", [], "unsigned"),
    ]
    assert rows[0]["experts"] == ["one", "two"]
    assert rows[0]["created"] == manifest().created
    assert (rows[2]["experts"], rows[2]["created"]) == ([], None), "nothing unsigned is repeated"
    code, out, err = tocsin("list")
    assert (code, err) == (0, "")
    assert "champion" in out.splitlines()[2]
    assert "unsigned" in out.splitlines()[3]


def test_show_and_verify(registry: Registry, private: Ed25519PrivateKey, tocsin: Tocsin) -> None:
    registry.publish(*answering(), private)
    code, out, _ = tocsin("show", "1", "--json")
    shown = msgspec.json.decode(out)
    assert code == 0
    assert shown.pop("digest") == registry.read("1").digest
    assert shown.pop("decision") is None, "nobody weighed it: it was published by hand"
    assert msgspec.convert(shown, Manifest) == registry.manifest("1")
    assert "one (forest, weight 1)" in tocsin("show", "1")[1]
    assert msgspec.json.decode(tocsin("verify", "1", "--json")[1])["status"] == "ok"
    (registry.folder / "1" / "one.forest").write_bytes(b"")
    for action in ("show", "verify"):
        code, out, err = tocsin(action, "1", "--json")
        assert (code, out) == (5, "")
        assert "[altered]" in err
    assert tocsin("verify", "4")[0] == 5


def test_what_cant_be_meant_is_exit_2(tocsin: Tocsin, keys: tuple[Path, Path]) -> None:
    for arguments in (["show"], ["verify"], ["activate"], ["list", "3"], ["keygen", "3"]):
        assert tocsin(*arguments)[0] == 2
    code, out, err = tocsin("keygen", "--json")
    assert (code, out) == (2, "")
    assert "[key_exists]" in err
    keys[0].unlink()
    code, _, err = tocsin("activate", "1")
    assert code == 2
    assert str(keys[0]) in err
    assert "tocsin models keygen" in err


def test_keygen_makes_the_pair_the_engine_looks_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "keygen", "--json", "--home", str(tmp_path)]) == 0
    answer = msgspec.json.decode(capsys.readouterr().out)
    assert answer == {"private": f"{tmp_path}/keys/private.pem", "public": f"{tmp_path}/keys/public.pem"}
    assert signing.is_pair(
        signing.load_private(Path(answer["private"])), signing.load_public(Path(answer["public"]))
    )


# ---- crashes and races


def test_leftovers_mean_nothing_and_are_removed_when_old(published: Registry, private: Ed25519PrivateKey) -> None:
    crashed, live = published.folder / ".tmp-crashed", published.folder / ".tmp-live"
    shutil.copytree(published.folder / "1", crashed)
    shutil.copytree(published.folder / "1", live)
    (published.folder / ".tmp-alias").write_bytes(b"1")
    hours_ago = time.time() - 2 * 3600
    for old in (crashed, published.folder / ".tmp-alias"):
        os.utime(old, (hours_ago, hours_ago))
    assert published.versions() == ["1"]
    assert published.publish(manifest(), FILES, private) == "2"
    assert sorted(p.name for p in published.folder.iterdir()) == [".tmp-live", "1", "2"]


def test_a_publish_that_fails_leaves_nothing(registry: Registry, private: Ed25519PrivateKey) -> None:
    class Stopped(BaseException):
        pass

    class Files(dict[str, bytes]):
        def items(self) -> Any:
            yield "one.forest", b""
            raise Stopped

    with pytest.raises(Stopped):
        registry.publish(manifest(), Files(FILES), private)
    assert list(registry.folder.iterdir()) == []


BEGIN = """
import os, signal, sys
from pathlib import Path
import msgspec
from engine.manifest import Manifest
from engine.registry import Registry, signing
folder, keys = sys.argv[1], Path(sys.argv[2])
blank = msgspec.json.decode(sys.argv[3], type=Manifest)
files = {expert.file: os.urandom(1000) for expert in blank.experts}
registry, private = Registry(folder, keys / "public.pem"), signing.load_private(keys / "private.pem")
"""

PUBLISHER = BEGIN + """
print("ready", flush=True)
sys.stdin.read(1)
for i in range(int(sys.argv[5])):
    version = registry.publish(msgspec.structs.replace(blank, created=f"{sys.argv[4]}.{i}"), files, private)
    registry.set_alias("champion", version)
    print(version, f"{sys.argv[4]}.{i}", flush=True)
"""

DYING = BEGIN + """
left = int(sys.argv[4])
def hook(event, arguments):
    global left
    if event in ("open", "os.mkdir", "os.rename") and folder in str(arguments[0]):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
print(registry.publish(blank, files, private))
"""


def command(code: str, registry: Registry, keys: tuple[Path, Path], *arguments: str) -> list[str]:
    return [
        sys.executable, "-c", code, str(registry.folder), str(keys[0].parent), encode(manifest()).decode(), *arguments
    ]


def publisher(registry: Registry, keys: tuple[Path, Path], name: str, count: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        command(PUBLISHER, registry, keys, name, str(count)),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("x")
    process.stdin.flush()


def test_publishers_at_once_never_share_a_version(registry: Registry, keys: tuple[Path, Path]) -> None:
    publishers = [publisher(registry, keys, name, 15) for name in "abc"]
    for process in publishers:
        go(process)
    told: dict[str, str] = {}
    for process in publishers:
        lines = process.communicate(timeout=60)[0].splitlines()
        assert process.returncode == 0
        assert len(lines) == 15
        told |= dict(line.split() for line in lines)
    assert registry.versions() == [str(n) for n in range(1, 46)]
    assert {version: registry.verify(version).created for version in registry.versions()} == told
    assert registry.resolve("champion") in told


def test_a_publisher_killed_before_any_step_leaves_the_registry_as_it_was(
    published: Registry, keys: tuple[Path, Path]
) -> None:
    steps, killed, code = 0, 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        steps += 1
        before = published.versions()
        code = subprocess.run(command(DYING, published, keys, str(steps)), capture_output=True).returncode
        assert [published.status(version) for version in published.versions()] == ["ok"] * len(published.versions())
        killed += published.versions() == before
    assert code == 0
    assert killed >= len(manifest().experts) + 4  # the folder, each file, manifest, signature, the rename
    assert published.versions()[-1] == str(steps - killed + 1)


def test_a_killed_publisher_leaves_the_registry_loadable(
    registry: Registry, keys: tuple[Path, Path], private: Ed25519PrivateKey
) -> None:
    rng = random.Random(7)
    told: dict[str, str] = {}
    for round_ in range(8):
        process = publisher(registry, keys, str(round_), 10_000)
        go(process)
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(rng.randrange(3))]
        time.sleep(rng.uniform(0.0, 0.01))
        process.send_signal(signal.SIGKILL)
        lines += process.communicate(timeout=60)[0].splitlines()
        told |= dict(line.split() for line in lines if len(line.split()) == 2)
        assert [registry.status(version) for version in registry.versions()] == ["ok"] * len(registry.versions())
        assert set(told) <= set(registry.versions())
    assert told
    assert all(registry.verify(version).created == created for version, created in told.items())
    assert registry.verify("champion").version == registry.resolve("champion")
    before = len(registry.versions())
    assert registry.publish(manifest(), FILES, private) == str(before + 1)
