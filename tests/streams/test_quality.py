"""What is told of a text: each flag where it belongs and nowhere else, the language, and what is rejected for it."""

import base64
import random
from collections.abc import Sequence
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.flags import FLAGS, NOTHING, Flag, Verdict
from streams.quality import judged, refusal, repaired
from streams.record import Document, Record, decode
from streams.split import Chunk, SplitRules, chunk_document
from tests.streams.test_split import encode

RULES = SplitRules(max_chars=1000, overlap_chars=100, max_tokens=10**6)
ARTICLE = {
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with reason and "
    "conscience and should act towards one another in a spirit of brotherhood.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt "
    "und sollen einander im Geist der Brüderlichkeit begegnen.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de "
    "conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y "
    "conciencia, deben comportarse fraternalmente los unos con los otros.",
    "pt": "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de razão e de "
    "consciência, devem agir uns para com os outros em espírito de fraternidade.",
    "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ragione e di "
    "coscienza e devono agire gli uni verso gli altri in spirito di fratellanza.",
    "nl": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd met verstand en "
    "geweten, en behoren zich jegens elkander in een geest van broederschap te gedragen.",
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem i "
    "sumieniem i powinni postępować wobec innych w duchu braterstwa.",
    "cs": "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv. Jsou nadáni rozumem a svědomím a mají "
    "spolu jednat v duchu bratrství.",
    "sv": "Alla människor är födda fria och lika i värde och rättigheter. De har utrustats med förnuft och samvete och "
    "bör handla gentemot varandra i en anda av gemenskap.",
    "fi": "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan. Heille on annettu järki ja "
    "omatunto, ja heidän on toimittava toisiaan kohtaan veljeyden hengessä.",
    "hu": "Minden emberi lény szabadon születik és egyenlő méltósága és joga van. Az emberek, ésszel és "
    "lelkiismerettel bírván, egymással szemben testvéri szellemben kell hogy viseltessenek.",
    "tr": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler ve "
    "birbirlerine karşı kardeşlik zihniyeti ile hareket etmelidirler.",
    "vi": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về "
    "nhân phẩm và quyền lợi. Mọi con người đều được tạo "
    "hoá ban cho lý trí và lương tâm và cần phải đối xử với nhau trong tình bằng hữu.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и "
    "должны поступать в отношении друг друга в духе братства.",
    "uk": "Всі люди народжуються вільними і рівними у своїй гідності та правах. Вони наділені розумом і совістю і "
    "повинні діяти у відношенні один до одного в дусі братерства.",
    "el": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. Είναι προικισμένοι με "
    "λογική και συνείδηση, και οφείλουν να συμπεριφέρονται μεταξύ τους με πνεύμα αδελφοσύνης.",
    "ar": "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. وقد وهبوا "
    "عقلاً وضميرًا وعليهم أن يعامل بعضهم بعضًا بروح الإخاء.",
    "he": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. כולם "
    "חוננו בתבונה ובמצפון, לפיכך חובה עליהם לנהוג איש "
    "ברעהו ברוח של אחוה.",
    "hi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता "
    "और समानता प्राप्त है। उन्हें बुद्धि और अन्तरात्मा की देन "
    "प्राप्त है और परस्पर उन्हें भाईचारे के भाव से बर्ताव करना चाहिए।",
    "th": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ต่างมีเหตุผลและมโนธรรม และควรปฏิบัติต่อกันด้วยเจตนารมณ์แห่งภราดรภาพ",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。人間は、"
    "理性と良心とを授けられており、互いに同胞の精神をもって行動しなければならない。",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. "
    "인간은 천부적으로 이성과 양심을 부여받았으며 서로 "
    "형제애의 정신으로 행동하여야 한다.",
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
}
"""The first article of the Universal Declaration of Human Rights."""
WORLD = "\n".join(ARTICLE.values())
LATIN = [ARTICLE[language] for language in ("de", "fr", "es", "pt", "it", "pl", "cs", "sv", "hu", "tr")]
NOISE = random.Random(1).randbytes(3000)
PROGRAM = """
def fetch(self, offset: int) -> list[Record]:
    \"\"\"The records from there on; none at the end.\"\"\"
    found = [record for record in self.log if record.offset >= offset][: self.most]
    if not found and offset < self.end:
        raise LookupError(f"{offset} is gone: the log begins at {self.begin}")
    return found
"""
MINIFIED = (
    '!function(e,t){"object"==typeof exports&&"undefined"!=typeof module?module.exports=t():(e=e||self).weir=t()}('
    'this,function(){"use strict";function n(e){return null==e?[]:Array.isArray(e)?e:[e]}var r=Object.assign||function'
    "(e){for(var t=1;t<arguments.length;t++){var n=arguments[t];for(var r in n)Object.prototype.hasOwnProperty.call"
    "(n,r)&&(e[r]=n[r])}return e};return{list:n,merge:r}});"
)
MENU = "Home\nProducts\nAbout us\nSign in to your account\nSubscribe to our newsletter\n"
TABLE = "+------+------+\n| a  1 | b  2 |\n+======+======+\n| ---- | ---- |\n+------+------+\n| .... | **** |\n" * 2


def document(text: str, **fields: object) -> Document:
    value = orjson.dumps({"text": text, **fields})
    made = decode(Record(topic="t", partition=0, offset=0, timestamp_ms=0, key=b"k", value=value))
    assert isinstance(made, Document), made
    return made


def chunks_of(made: Document) -> list[Chunk]:
    chunks = chunk_document(made, RULES, encode)
    assert isinstance(chunks, list), chunks
    return chunks


def verdict_on(text: str) -> Verdict:
    made = document(text)
    return judged(made, chunks_of(made))


def flags_of(text: str) -> set[Flag]:
    """Of all chunks together."""
    return {flag for flags in verdict_on(text).flags for flag in flags}


def rejected_for(text: str) -> set[Flag]:
    """Flags that would keep it out."""
    made = document(text)
    chunks = chunks_of(made)
    verdict = judged(made, chunks)
    return {flag for flag in FLAGS if refusal(made, chunks, verdict, [flag])}


@pytest.mark.parametrize("language", ARTICLE)
def test_plain_text_has_no_flag_whatever_its_language(language: str) -> None:
    verdict = verdict_on(ARTICLE[language])
    assert (set(verdict.flags), verdict.language) == ({()}, language)


@pytest.mark.parametrize(
    "text",
    [
        PROGRAM,
        "A ticket: the login page shows error 500 since this morning, please help.",
        "# Title\n\n* one\n* two\n\n| a | b |\n|---|---|\n| left | right |\n| upper | lower |\n\nAnd some text below.",
        "See https://docs.example.org/en/latest/reference/settings.html#offset-commit-interval and the page after it.",
        "The replacement character � is shown for bytes that are no UTF-8, as every page about encodings says. "
        + 4 * ARTICLE["en"],
        "SHA-256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 is that of nothing, they say.",
        "/usr/lib/python3/dist-packages/Cython/Includes/Deprecated/Python2Compatibility.pxd was deleted by somebody.",
        "Liebe Grüße, 3 × 4 = 12, ½ Tasse, 20 °C, “quotes”, naïve café — and a dash… It’s fine: ® ™ © €5.",
        WORLD,
    ],
)
def test_what_is_all_right_has_no_flag(text: str) -> None:
    assert flags_of(text) == set()


@pytest.mark.parametrize("codec", ["latin-1", "cp1252", "mac_roman"])
def test_mojibake_is_found_and_its_repair_suggested(codec: str) -> None:
    for text in LATIN:
        wrong = text.encode().decode(codec, errors="ignore")
        assert "mojibake" in flags_of(wrong), wrong
    for text in LATIN[:5]:
        wrong = text.encode().decode(codec)
        assert repaired(wrong) == text
        assert repaired(text) is None


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        (LATIN[0].encode("cp1252").decode(errors="replace") * 2, "replacement"),
        ("\x1b[31mERROR\x1b[0m the disk is full, \x1b[1mand\x1b[0m nobody knows \x07 why that is so today.", "control"),
        (MENU * 9 + ARTICLE["en"], "boilerplate"),
        ("ok, thanks!", "short"),
        ("+1", "short"),
        (TABLE, "symbols"),
        ("═══╦═══╗ ║ ▓▓▓░░░ ║ ─── 34 % ─── ║ →→→→→→ ║ ✓✓✓ ✗✗✗ ║ ╚═══╩═══╝" * 3, "symbols"),
        (base64.b64encode(NOISE).decode(), "base64"),
        (base64.urlsafe_b64encode(NOISE).decode(), "base64"),
        (base64.encodebytes(NOISE).decode(), "base64"),
        (MINIFIED * 4, "minified"),
        (".weir{margin:0;padding:0}.weir a{color:#fff}.weir a:hover{color:red;top:1px}" * 12, "minified"),
    ],
)
def test_each_flag_is_found_where_it_belongs(text: str, flag: Flag) -> None:
    assert flag in flags_of(text)
    assert flag in rejected_for(text)


def test_one_bad_chunk_of_many_is_flagged_and_the_document_stays() -> None:
    text = "\n\n".join(f"{number}. {ARTICLE['en']}" for number in range(40))
    text += "\n\n" + base64.b64encode(NOISE[:700]).decode()
    verdict = verdict_on(text)
    flagged = [number for number, flags in enumerate(verdict.flags) if "base64" in flags]
    assert flagged == [len(verdict.flags) - 1]
    assert rejected_for(text) == set()


def test_only_what_is_listed_is_rejected_and_the_letter_says_why() -> None:
    made = document(LATIN[0].encode().decode("cp1252", errors="ignore"))
    chunks = chunks_of(made)
    verdict = judged(made, chunks)
    assert refusal(made, chunks, verdict, []) is None
    assert refusal(made, chunks, verdict, ["base64", "short"]) is None
    refused = refusal(made, chunks, verdict, ["base64", "mojibake"])
    assert refused is not None
    assert (refused.stage, refused.error, refused.record) == ("quality", "Mojibake", made.record)
    assert "UTF-8 that was read as latin-1, in 1 of 1 chunks" in refused.message
    assert "Menschen" not in refused.message, "nothing of the text"


def test_chunks_of_the_producer_are_judged_one_by_one_and_together() -> None:
    given = [{"text": ARTICLE["de"]}, {"text": base64.b64encode(NOISE).decode()}, {"text": "ok"}]
    made = decode(
        Record(topic="t", partition=0, offset=0, timestamp_ms=0, key=b"k", value=orjson.dumps({"chunks": given}))
    )
    assert isinstance(made, Document)
    verdict = judged(made, chunks_of(made))
    assert verdict.flags == ((), ("base64",), ())
    assert verdict.language == "de"
    assert verdict.signature is not None


def test_a_deletion_is_nothing() -> None:
    assert judged(document(""), []) == NOTHING
    assert refusal(document(""), [], NOTHING, FLAGS) is None
    assert NOTHING.of(3) == ()


@given(st.text(max_size=200) | st.text("aé�\x00\x1b—+/=9 \n", max_size=200), st.sampled_from(["", WORLD, TABLE]))
def test_any_text_is_judged_and_always_alike(text: str, more: str) -> None:
    made = document(text + more)
    chunks = chunks_of(made)
    verdict = judged(made, chunks)
    assert verdict == judged(made, chunks)
    assert len(verdict.flags) == len(chunks)
    assert {flag for flags in verdict.flags for flag in flags} <= set(FLAGS)
    assert verdict.language is None or 2 <= len(verdict.language) <= 3
    refused = refusal(made, chunks, verdict, FLAGS)
    assert refused is None or refused.message


@given(st.lists(st.sampled_from([*ARTICLE.values(), PROGRAM, TABLE, "ok"]), min_size=1, max_size=6))
def test_white_space_of_another_kind_between_chunks_changes_nothing(pieces: Sequence[str]) -> None:
    """As in a text that is made again from its chunks."""
    one, other = document("\n\n\n".join(pieces)), document(" \t ".join(pieces))
    chunks = [Chunk(text=piece, ids=[1], start=0, end=len(piece), metadata={}) for piece in pieces]
    first, second = judged(one, chunks), judged(other, chunks)
    assert replace(first, flags=()) == replace(second, flags=())
