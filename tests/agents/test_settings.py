"""Settings: file, environment, secrets, and errors that name the setting, its source and the fix."""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from agents.elastic.client import connect
from agents.kafka.connection import connection
from agents.settings import Settings, with_model_for_all
from agents.settings.loading import load_settings, origins
from agents.settings.mistakes import ALLOWED
from streams.cost import Price
from streams.errors import ConfigError
from streams.mapping import Rules


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in os.environ:
        if name.startswith("PENSTOCK_"):
            monkeypatch.delenv(name)


def file(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "penstock.toml"
    path.write_text(content)
    return path


ROUTE = "[[route]]\nname = 'a'\nmodel = 'm'\nmin_chars = 1\n"


def test_defaults_run_against_the_local_stack() -> None:
    settings = load_settings()
    assert settings.kafka.bootstrap_servers == "127.0.0.1:9092"
    assert str(settings.elasticsearch.url) == "http://127.0.0.1:9200/"
    assert settings.dead_letter_topic == "documents.dlq"


def test_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file(tmp_path, '[source]\ntopic = "a"\ngroup = "g"\n')
    monkeypatch.setenv("PENSTOCK_SOURCE__TOPIC", "b")
    settings = load_settings(path)
    assert (settings.source.topic, settings.source.group) == ("b", "g")
    rows = {row.name: row.source for row in origins(settings, path)}
    assert rows["source.topic"] == "environment PENSTOCK_SOURCE__TOPIC"
    assert rows["source.group"] == f"file {path}"
    assert rows["split.max_chars"] == "default"


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("[kafka]\nbootstrap_server = 'x'", "there is no setting kafka.bootstrap_server; did you mean kafka.bootstrap"),
        ("[kafak]\nx = 1", "there is no setting kafak; did you mean kafka?"),
        ("[split]\nmax_chars = 'many'", "split.max_chars: Input should be a valid integer"),
        ("[split]\nmax_chars = 100\noverlap_chars = 100", "must be less than split.max_chars"),
        ("[elasticsearch]\nalias = 'Upper'", "elasticsearch.alias: lower-case letters, digits, . _ and - only"),
        (
            "[source]\ntopic = 'a topic'",
            "source.topic: letters, digits, . _ and - only, and a letter or digit first (given",
        ),
        ("[elasticsearch]\ntext_field = 'Text'", "elasticsearch.text_field: lower-case letters, digits and _ only"),
        ("[elasticsearch]\nmetadata_fields = {'a b' = 'text'}", "letters, digits, _ and - only, and a letter first"),
        ("[elasticsearch]\nurl = '127.0.0.1:9200'", "elasticsearch.url: http:// or https:// is missing before it"),
        (
            "[kafka]\nbootstrap_servers = 'http://127.0.0.1:9092'",
            "kafka.bootstrap_servers: host:port is needed, without http",
        ),
        ("[kafka]\nbootstrap_servers = 'a:1,SSL://b:2'", "host:port is needed, without SSL://, and a comma between"),
        ("[elasticsearch]\nvector_field = 'text'", "must differ from the text field"),
        ("[elasticsearch]\nurl = 'ftp://x'", "elasticsearch.url"),
        (
            "[elasticsearch]\nmetadata_fields = {title = 'text'}",
            "title: Penstock has a field of that name in every index: rename yours",
        ),
        ("[elasticsearch]\nmetadata_fields = {year = 'number'}", "elasticsearch.metadata_fields.year"),
        (
            "[elasticsearch]\nmetadata_fields = {language = 'keyword'}",
            "language: Penstock has a field of that name in every index; what records say there is in it",
        ),
        ("[quality]\nreject = ['garbled']", "quality.reject.0: Input should be 'mojibake', 'replacement'"),
        ("[quality]\nreject = 'base64'", 'quality.reject: a list is needed, such as ["mojibake", "base64"]'),
        ("[kafka\n", "is not TOML"),
        (
            "[kafka]\nsecurity_protocol = 'SASL_SSL'\nsasl_username = 'u'",
            "needs kafka.sasl_username and kafka.sasl_pass",
        ),
        ("[kafka]\nsasl_username = 'u'\nsasl_password = 'p4ss'", 'kafka.security_protocol = "SASL_SSL"'),
        ("[kafka]\nssl_cafile = 'x'", "kafka.ssl_cafile is not used with PLAINTEXT"),
        ("[kafka]\nsecurity_protocol = 'SSL'\nssl_keyfile = 'x'", "kafka.ssl_certfile, which is missing"),
        ("[kafka]\nsasl_mechanism = 'GSSAPI'", "kafka.sasl_mechanism: Input should be 'PLAIN'"),
        ("[elasticsearch]\nca_certs = 'x'", "are for https, elasticsearch.url is http"),
        ("[elasticsearch]\nurl = 'http://u:p4ss@host:9200'", "elasticsearch.username and elasticsearch.password"),
        ("[elasticsearch]\nurl = 'http://u:p4ss/@host'", "elasticsearch.username and elasticsearch.password"),
        ("[elasticsearch]\nurl = 'u:p4ss@host'", "elasticsearch.username and elasticsearch.password"),
        ("[kafka]\nbootstrap_servers = 'u:p4ss@host:9092'", "kafka.sasl_username and kafka.sasl_password"),
        ("[elasticsearch]\napi_key = 'p4ss'\nusername = 'u'\npassword = 'p4ss'", "api_key beside elasticsearch.user"),
        ("[elasticsearch]\nusername = 'u'", "elasticsearch.username and elasticsearch.password are needed together"),
        ("[elasticsearch]\npassword = 'p4ss'", "elasticsearch.password are needed together"),
        ("[elasticsearch]\nurl = 'http://host:9200/?x=p4ss'", "elasticsearch.url: scheme, host, port and path only"),
        ("[elasticsearch]\napi_key = 'p4ssü'", "elasticsearch.api_key: letters, digits and signs"),
        ('[elasticsearch]\npassword = "p4ss\\n"', "elasticsearch.password: letters, digits and signs"),
        ("[elasticsearch]\nusername = 'a:b'", "elasticsearch.username: a colon"),
        (
            "[elasticsearch]\nssl_fingerprint = 'ab'",
            "elasticsearch.ssl_fingerprint: the SHA-256 of a certificate is needed: 64 hex",
        ),
        (
            "[elasticsearch]\nrefresh_interval = 'banana'",
            "elasticsearch.refresh_interval: a number with its unit is needed, such as 1s",
        ),
        ("[lifecycle]\nstall_s = inf", "lifecycle.stall_s: Input should be less than or equal to 86400"),
        ("[kafka]\nbootstrap_servers = ''", "kafka.bootstrap_servers: String should have at least 1 character"),
        ("[dead_letters]\ntopic = 'documents'", "dead_letters.topic and source.topic are both documents"),
        ("[source]\ntopic = 'a.dlq'\n[dead_letters]\ntopic = 'a.dlq'", "source.topic are both a.dlq"),
        (
            "[source]\ngroup = 'g'\n[dead_letters]\ntopic = 'g-claims-changelog'",
            "dead_letters.topic is g-claims-changelog, where the claims of source.group = g are",
        ),
        ("[service]\nmax_texts = 1", "service.max_texts: Input should be greater than or equal to 2"),
        ("[service]\nrequests_per_minute = 0", "service.requests_per_minute: Input should be greater than or equal"),
        ("[service]\nkey = 'p4ss'", "there is no setting service.key; did you mean service.key_file?"),
        ("[service.models.x.models.y]\ntimeout_s = 1", "service.models.x.models: services do not nest"),
        ("[service.models.x]\nmax_texts = 1", "service.models.x.max_texts: Input should be greater"),
        (
            "[[route]]\nname = 'a'\nmodel = 'm'",
            "route.1: it has no condition (min_chars, max_chars, language, source, ",
        ),
        ("[[route]]\nname = 'a'\nmin_chars = 1", "route.1.model: Field required"),
        (f"{ROUTE}language = 3", 'route.1.language: a list is needed, such as ["this", "that"] (given: 3)'),
        (f"{ROUTE}max_char = 3", "there is no setting route.1.max_char; did you mean route.1.max_chars?"),
        ("route = [3]", 'route.1: a table is needed, as in [{"name": "short", "model": "fast", "max_chars": 500}]'),
        (f"{ROUTE}{ROUTE}model = 'n'", "is not TOML"),
        (f"{ROUTE}{ROUTE}", "two routes have the name a"),
        (f"{ROUTE}max_chars = 0", "route.1: no text has at least 1 characters and at most 0"),
        (
            f"{ROUTE}vector = 'vector'",
            "route a: the field vector has vectors of all-MiniLM-L6-v2, and those of two models",
        ),
        (f"{ROUTE}vector = 'text'", "route a: Penstock has a field text: give it another `vector`"),
        (f"{ROUTE}vector = 'document_vector'", "route a: Penstock has a field document_vector"),
        (f"{ROUTE}vector = 'Fast'", "route.1.vector: lower-case letters, digits and _ only"),
        (
            f"{ROUTE}vector = 'v'\n" + ROUTE.replace("'a'", "'b'"),
            "m has two fields, v and vector_m: one is enough; leave `vector` of its routes out",
        ),
        (
            f"{ROUTE}vector = 'v_b_document'\n[[route]]\nname = 'b'\nmodel = 'n'\nvector = 'v_b'\nmin_chars = 1",
            "a field v_b_",
        ),
        ("[[route]]\nname = 'a'\nmodel = 'm'\nlanguage = []", "route.1: language is empty, and would hold for every"),
        (f"{ROUTE}metadata = {{}}", "route.1: metadata is empty, and would hold for every document: leave it out"),
        (
            f"{ROUTE}header = {{kind = []}}",
            "route.1: header.kind is empty, and nothing would do: leave it out, or name",
        ),
        ("[[route]]\nname = 'default'\nmodel = 'm'\nmin_chars = 1", "the name default belongs to the route of what no"),
        (
            "[budget]\nper_day = 5",
            "budget.per_day is set, and nothing has a price: [cost.models.NAME] with million_tokens",
        ),
        ("[budget]\nper_day = 0", "budget.per_day: Input should be greater than 0"),
        ("[budget]\nthen = 'stop'", "budget.then: pause, alert, or route:NAME is needed"),
        ("[budget]\nthen = 'route:fast'", "budget.then: there is no route fast; there is default"),
        ("[budget]\nthen = 'route:default'", "budget.then: all routes are to all-MiniLM-L6-v2, so that default costs"),
        (f"[budget]\nthen = 'route:b'\n{ROUTE}", "budget.then: there is no route b; there is default, a"),
        ("[cost.models.m]\nmillion_tokens = -1", "cost.models.m.million_tokens: Input should be greater than or equal"),
        ("[cost.models.m]\nrequest = 0.00000000001", "cost.models.m.request: Decimal input should have no more than 9"),
        ("[cost.models.m]\nmillion_token = 1", "there is no setting cost.models.m.million_token"),
        ("[cost.models]\n'a b' = {request = 1}", "letters, digits, . _ and - only, and a letter or digit first"),
        ("elasticsearch = 'p4ss'", "Input should be a valid dictionary"),
        ("[elasticsearch.password]\nvalue = 'p4ss'", "elasticsearch.password: Input should be a valid string"),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, content: str, part: str) -> None:
    with pytest.raises(ConfigError, match=".*") as caught:
        load_settings(file(tmp_path, content))
    assert part in str(caught.value)
    assert "p4ss" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_every_pattern_is_explained_in_words() -> None:
    """A regular expression helps nobody who wrote a name wrong."""
    schema = json.dumps(Settings.model_json_schema())
    patterns = re.findall(r'"pattern": ("(?:[^"\\\\]|\\\\.)*")', schema)
    patterns += re.findall(r'"patternProperties": \{("(?:[^"\\\\]|\\\\.)*")', schema)
    assert {json.loads(pattern) for pattern in patterns} == ALLOWED.keys()


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_authorities_that_cannot_be_read_are_named(tmp_path: Path, content: str | None) -> None:
    if content:
        (tmp_path / "ca.pem").write_text(content)
    settings = load_settings(
        file(tmp_path, f"[elasticsearch]\nurl = 'https://host:9200'\nca_certs = '{tmp_path / 'ca.pem'}'")
    )
    with pytest.raises(ConfigError, match=r"^elasticsearch\.ca_certs = .*ca\.pem cannot be used: "):
        connect(settings.elasticsearch)


def test_credentials_are_not_sent_in_the_clear_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_ELASTICSEARCH__API_KEY", "s3cret")
    monkeypatch.setenv("PENSTOCK_KAFKA__SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    monkeypatch.setenv("PENSTOCK_KAFKA__SASL_USERNAME", "u")
    monkeypatch.setenv("PENSTOCK_KAFKA__SASL_PASSWORD", "s3cret")
    settings = load_settings()  # `config show` still shows them
    with pytest.raises(ConfigError, match=r"elasticsearch\.allow_plaintext_credentials = true"):
        connect(settings.elasticsearch)
    with pytest.raises(ConfigError, match=r"kafka\.allow_plaintext_credentials = true"):
        connection(settings)
    monkeypatch.setenv("PENSTOCK_ELASTICSEARCH__ALLOW_PLAINTEXT_CREDENTIALS", "true")
    monkeypatch.setenv("PENSTOCK_KAFKA__ALLOW_PLAINTEXT_CREDENTIALS", "true")
    told = load_settings()
    assert connect(told.elasticsearch) is not None
    assert connection(told)["sasl_plain_password"] == "s3cret"


def test_unknown_variable_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_SPLITT__MAX_CHARS", "3")
    with pytest.raises(ConfigError, match="did you mean PENSTOCK_SPLIT__MAX_CHARS"):
        load_settings()


def test_none_is_a_value_where_it_is_one_of_them_and_none_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_SPLIT__DOCUMENT_VECTOR", "none")
    monkeypatch.setenv("PENSTOCK_SOURCE__MAPPING__TEXT", "{body}")
    monkeypatch.setenv("PENSTOCK_SOURCE__MAPPING__PRESET", "none")
    monkeypatch.setenv("PENSTOCK_MODEL__THREADS", "none")
    found = load_settings()
    assert found.source.mapping is not None
    assert (found.split.document_vector, found.source.mapping.preset, found.model.threads) == ("none", "none", None)
    monkeypatch.setenv("PENSTOCK_SPLIT__DOCUMENT_VECTOR", "mean")
    assert load_settings().split.document_vector == "mean"


@pytest.mark.parametrize("field", ["text_field", "vector_field"])
def test_a_field_of_documents_is_nobody_elses(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    monkeypatch.setenv(f"PENSTOCK_ELASTICSEARCH__{field.upper()}", "document_vector")
    with pytest.raises(ConfigError, match=f"elasticsearch.{field}: .*choose another"):
        load_settings()


def test_a_table_in_the_environment_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_ELASTICSEARCH__METADATA_FIELDS", '{"year": "integer"}')
    assert load_settings().elasticsearch.metadata_fields == {"year": "integer"}
    monkeypatch.setenv("PENSTOCK_ELASTICSEARCH__METADATA_FIELDS", '{year = "integer"}')
    told = r"PENSTOCK_ELASTICSEARCH__METADATA_FIELDS is not JSON \(.*\); it is written as '\{\"year\": \"integer\"\}'"
    with pytest.raises(ConfigError, match=told):
        load_settings()


LINKS = {
    "PENSTOCK_SERVICE_HOST": "10.0.171.239",
    "PENSTOCK_SERVICE_PORT": "9464",
    "PENSTOCK_SERVICE_PORT_METRICS": "9464",
    "PENSTOCK_PORT": "tcp://10.0.171.239:9464",
    "PENSTOCK_PORT_9464_TCP": "tcp://10.0.171.239:9464",
    "PENSTOCK_PORT_9464_TCP_PROTO": "tcp",
    "PENSTOCK_PORT_9464_TCP_PORT": "9464",
    "PENSTOCK_PORT_9464_TCP_ADDR": "10.0.171.239",
    "PENSTOCK_ADMIN_PORT": "tcp://10.0.171.239:9464",
    "PENSTOCK_ADMIN_SERVICE_HOST": "10.0.171.239",
}


def test_what_kubernetes_tells_every_pod_about_a_service_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LINKS.items():
        monkeypatch.setenv(name, value)
    assert load_settings() == Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PENSTOCK_ADMIN_PORT", "9464"),
        ("PENSTOCK_PORT", "9464"),
        ("PENSTOCK_ADMIN__SERVICE_PORT", "9464"),
        ("PENSTOCK_PORT_9464", "tcp://10.0.171.239:9464"),
        ("PENSTOCK_SOURCE_TOPIC", "x"),
    ],
)
def test_a_typing_mistake_is_no_service(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"{name}: there is no such setting"):
        load_settings()


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml cannot be read: No such file"):
        load_settings(tmp_path / "nowhere.toml")


def test_secret_from_a_file_is_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("s3cret\n")
    monkeypatch.setenv("PENSTOCK_ELASTICSEARCH__API_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("PENSTOCK_KAFKA__SSL_PASSWORD_FILE", str(tmp_path / "key"))
    settings = load_settings()
    assert settings.elasticsearch.api_key is not None
    assert settings.kafka.ssl_password is not None
    assert settings.elasticsearch.api_key.get_secret_value() == "s3cret"
    assert settings.kafka.ssl_password.get_secret_value() == "s3cret"
    assert all("s3cret" not in row.value for row in origins(settings))
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize("spell", [str.upper, str.lower])
def test_a_secret_from_a_file_wins_over_the_settings_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spell: Callable[[str], str]
) -> None:
    path = file(tmp_path, "[elasticsearch]\napi_key = 'older'\n")
    (tmp_path / "key").write_text("s3cret\n")
    monkeypatch.setenv(spell("PENSTOCK_ELASTICSEARCH__API_KEY_FILE"), str(tmp_path / "key"))
    key = load_settings(path).elasticsearch.api_key
    assert key is not None
    assert key.get_secret_value() == "s3cret"
    (row,) = [row for row in origins(load_settings(path), path) if row.name == "elasticsearch.api_key"]
    assert row.source == "environment PENSTOCK_ELASTICSEARCH__API_KEY_FILE"
    monkeypatch.setenv("PENSTOCK_ELASTICSEARCH__API_KEY", "another")
    with pytest.raises(ConfigError, match="__API_KEY and PENSTOCK_ELASTICSEARCH__API_KEY_FILE are both set"):
        load_settings(path)


@pytest.mark.parametrize(
    ("content", "part"), [(None, "cannot be read: No such file"), (b"\n", "is empty"), (b"\xff", "is not UTF-8 text")]
)
def test_a_secrets_file_without_a_secret_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, part: str
) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    monkeypatch.setenv("PENSTOCK_KAFKA__SASL_PASSWORD_FILE", str(tmp_path / "key"))
    with pytest.raises(ConfigError, match=f"SASL_PASSWORD_FILE names .*key, which {part}"):
        load_settings()


def test_a_value_from_the_environment_is_named_and_its_secret_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_ELASTICSEARCH__URL", "http://elastic:p4ss@host:9200")
    with pytest.raises(ConfigError, match=r"^PENSTOCK_ELASTICSEARCH__URL: elasticsearch\.url: a login") as caught:
        load_settings()
    assert "p4ss" not in str(caught.value)


def test_sample_file_is_valid_and_holds_defaults_only() -> None:
    sample = load_settings(Path(__file__).parents[2] / "ops" / "penstock.toml")
    defaults = Settings()
    assert sample.model_copy(update={"log": defaults.log}) == defaults


def test_a_mapping_from_file_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text('[source.mapping]\ntext = "{title}\\n\\n{body}"\nmetadata = ["team"]\n')
    monkeypatch.setenv("PENSTOCK_SOURCE__MAPPING__DELETED", "gone")
    monkeypatch.setenv("PENSTOCK_SOURCE__MAPPING__DELETED_VALUES", '["yes"]')
    settings = load_settings(path)
    assert settings.source.mapping is not None
    assert settings.source.mapping.rules == Rules(
        text="{title}\n\n{body}", metadata=("team",), deleted="gone", deleted_values=("yes",)
    )
    rows = {row.name: row.source for row in origins(settings, path)}
    assert rows["source.mapping.text"] == f"file {path}"
    assert rows["source.mapping.deleted"] == "environment PENSTOCK_SOURCE__MAPPING__DELETED"
    assert rows["source.mapping.url"] == "default"


@pytest.mark.parametrize(
    ("lines", "part"),
    [
        ('text = "{a"', "source.mapping: `text` has a { at character 1 ('{a') that nothing closes"),
        ('text = "{a}"\ntitel = "{b}"', "there is no setting source.mapping.titel; did you mean source.mapping.title?"),
        ('title = "{a}"', "source.mapping.text: Field required"),
        ('text = "{a}"\ndeleted_values = ["x"]', "deleted_values are values of the field that `deleted` names"),
        ('text = "{a}"\npreset = "debesium"', "source.mapping.preset"),
    ],
)
def test_a_wrong_mapping_names_the_setting(tmp_path: Path, lines: str, part: str) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(f"[source.mapping]\n{lines}\n")
    with pytest.raises(ConfigError) as told:
        load_settings(path)
    assert part in str(told.value)
    assert "\n" not in str(told.value)


def test_a_list_in_the_environment_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_SOURCE__MAPPING__TEXT", "{a}")
    monkeypatch.setenv("PENSTOCK_SOURCE__MAPPING__METADATA", "team,lang")
    with pytest.raises(ConfigError, match=r"""PENSTOCK_SOURCE__MAPPING__METADATA .* written as '\["team", "lang"\]'"""):
        load_settings()


@pytest.mark.parametrize(
    ("table", "meant"),
    [("source.maping", "source.mapping"), ("source.schema_registri", "source.schema_registry"), ("souce", "source")],
)
def test_a_mistyped_table_is_taken_for_a_table(tmp_path: Path, table: str, meant: str) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(f'[{table}]\ntext = "{{a}}"\n')
    with pytest.raises(ConfigError) as told:
        load_settings(path)
    assert str(told.value).endswith(f"there is no setting {table}; did you mean {meant}?")


def test_routes_come_from_the_file_or_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model has a field of its own: that of `model.name` is `elasticsearch.vector_field`."""
    path = tmp_path / "penstock.toml"
    path.write_text(
        "[[route]]\nname = 'short'\nmodel = 'Fast-1'\nmax_chars = 500\nlanguage = 'en'\n"
        "[[route]]\nname = 'vip'\nmodel = 'all-MiniLM-L6-v2'\nheader = {vip = ['yes', 'true']}\n"
        "[[route]]\nname = 'faq'\nmodel = 'Fast-1'\nsource = ['*/faq/*']\n"
    )
    made = load_settings(path)
    assert made.models == ("all-MiniLM-L6-v2", "Fast-1")
    assert [made.vector_of(route) for route in made.route] == ["vector_fast_1", "vector", "vector_fast_1"]
    short, vip, _ = made.route
    assert (short.conditions.language, short.conditions.max_chars) == (("en",), 500)
    assert vip.conditions.header == {"vip": ("yes", "true")}
    rows = {row.name: row for row in origins(made, path)}
    assert rows["route.3"].value == '{"name": "faq", "model": "Fast-1", "source": ["*/faq/*"]}'
    assert rows["route.3"].source == f"file {path}"
    monkeypatch.setenv("PENSTOCK_ROUTE", '[{"name": "x", "model": "m", "min_chars": 9}]')
    assert [route.name for route in load_settings(path).route] == ["x"]
    monkeypatch.setenv("PENSTOCK_ROUTE", "x")
    with pytest.raises(ConfigError, match=r"PENSTOCK_ROUTE is not JSON .* it is written as"):
        load_settings(path)


def test_prices_are_exact_whoever_tells_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not load_settings().counts_costs
    told = load_settings(file(tmp_path, "[cost.models.'a.b']\nmillion_tokens = 0.02\n[budget]\nper_day = 0.3"))
    assert told.counts_costs
    assert told.cost.prices == {"a.b": Price(million_tokens=20_000_000)}
    assert told.budget.per_day == Decimal("0.3")
    assert {row.name: row.value for row in origins(told)}["cost.models"] == "{'a.b': {million_tokens = 0.02}}"
    monkeypatch.setenv("PENSTOCK_COST__MODELS", '{"m": {"core_hour": 0.041}}')
    assert load_settings().cost.prices == {"m": Price(core_hour=41_000_000)}
    monkeypatch.setenv("PENSTOCK_COST__MODELS", "m")
    with pytest.raises(ConfigError, match="PENSTOCK_COST__MODELS is not JSON"):
        load_settings()


def test_another_model_for_an_index_has_to_go_with_its_routes(tmp_path: Path) -> None:
    made = load_settings(file(tmp_path, ROUTE))
    assert with_model_for_all(made, "m").models == ("m",)
    apart = load_settings(file(tmp_path, f"{ROUTE}vector = 'v'"))
    with pytest.raises(ConfigError, match="^--model m: m has two fields, v and vector: one is enough"):
        with_model_for_all(apart, "m")
