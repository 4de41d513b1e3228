"""The words the simulated model knows: labels of an e-mail by keyword, a few phrases in four languages."""

import re

LANGUAGES = (
    "Arabic|Chinese|Czech|Danish|Dutch|English|Finnish|French|German|Greek|Hindi|Hungarian|Irish|"
    "Italian|Japanese|Korean|Latin|Norwegian|Polish|Portuguese|Romanian|Russian|Spanish|Swedish|"
    "Turkish|Ukrainian|Welsh"
)

_COLUMNS = ("Italian", "French", "German", "Spanish")
_PHRASES = {
    "hello": ("ciao", "bonjour", "hallo", "hola"),
    "hi": ("ciao", "salut", "hallo", "hola"),
    "thank you": ("grazie", "merci", "danke", "gracias"),
    "thanks": ("grazie", "merci", "danke", "gracias"),
    "good morning": ("buongiorno", "bonjour", "guten Morgen", "buenos días"),
    "good evening": ("buonasera", "bonsoir", "guten Abend", "buenas tardes"),
    "good night": ("buonanotte", "bonne nuit", "gute Nacht", "buenas noches"),
    "goodbye": ("arrivederci", "au revoir", "auf Wiedersehen", "adiós"),
    "please": ("per favore", "s'il vous plaît", "bitte", "por favor"),
    "sorry": ("scusa", "désolé", "Entschuldigung", "lo siento"),
    "how are you": ("come stai", "comment allez-vous", "wie geht es Ihnen", "cómo está"),
    "welcome": ("benvenuto", "bienvenue", "willkommen", "bienvenido"),
    "yes": ("sì", "oui", "ja", "sí"),
    "no": ("no", "non", "nein", "no"),
    "cat": ("gatto", "chat", "Katze", "gato"),
    "dog": ("cane", "chien", "Hund", "perro"),
    "house": ("casa", "maison", "Haus", "casa"),
    "water": ("acqua", "eau", "Wasser", "agua"),
    "bread": ("pane", "pain", "Brot", "pan"),
    "book": ("libro", "livre", "Buch", "libro"),
    "friend": ("amico", "ami", "Freund", "amigo"),
    "sun": ("sole", "soleil", "Sonne", "sol"),
    "love": ("amore", "amour", "Liebe", "amor"),
}


def translate(text: str, language: str) -> str:
    """What the dictionary has for the text, else the text itself, marked with the language."""
    bare = text.strip().rstrip(".!?")
    known = _PHRASES.get(bare.lower())
    if known is None or language not in _COLUMNS:
        return f"[{language}] {text.strip()}"
    word = known[_COLUMNS.index(language)]
    start = word[0].upper() if bare[0].isupper() else word[0]
    return start + word[1:] + text.strip()[len(bare) :]


def _stems(stems: str) -> re.Pattern[str]:
    """Match any of the stems at the start of a word, so that "charge" finds "charged"."""
    return re.compile(rf"\b(?:{stems})", re.IGNORECASE)


_COURTESY = re.compile(
    r"\b(?:many thanks|thanks|thank you)(?: so much| very much)?"
    r"(?:,?\s*$|,?\n| in advance| for (?:your|any|the) (?:time|help|patience|understanding))",
    re.IGNORECASE | re.MULTILINE,
)
_PLEASED = (
    r"thank|love\b|loved|lovely|delight|wonderful|perfect|happy|happier|excellent|pleased|fantastic|"
    r"amazing|wow\b|impress|brilliant|appreciat|superb|great\b|beautiful|made my|"
    r"best\b(?! regards| wishes|,)|pleasure|grateful|compliment|enjoy|good (?:job|work|service)|"
    r"five stars|kudos|thrilled|deserves"
)
_DISPLEASED = (
    r"angry|furious|terribl|horribl|awful|unacceptabl|disappoint|ridiculous|frustrat|useless|worst\b|"
    r"disgust|cheat|disgrac|shame|outrag|appall|scam\b|joke\b|rude\b|ignored|"
    r"nobody (?:seems|knows|answers|cares)|broken|broke\b|damaged|crack|shatter|defect|faulty|at fault|"
    r"crash|fail|went wrong|hate\b|bad\b|poor\b|dirty|unhelpful|unhappy|upset\b|overcharg|"
    r"charged me twice|charged twice|still not|never again|never arriv|never works|waste|fed up|"
    r"sick of|annoy|complain|lost\b|leak|smoke|burn|hacked|stolen|locked out|standstill|"
    r"does(?:n't| not) work|stopped working|not working|worse|liar|"
    r"(?:is|was|are|days|weeks|hours|too|so) late\b(?! that)|missing"
)
_POSITIVE = _stems(_PLEASED)
_NEGATIVE = _stems(_DISPLEASED)
_NOT_PLEASED = re.compile(
    rf"(?:\bnot|n't|\bnever|\bhardly|\bless than|\bfar from)\s+(?:\w+\s+){{0,2}}?(?:{_PLEASED})",
    re.IGNORECASE,
)
_NOT_DISPLEASED = re.compile(
    rf"\b(?:not (?:one|a single)|none|nothing|without)\s+(?:\w+\s+){{0,4}}?(?:{_DISPLEASED})", re.IGNORECASE
)

_CALM = _stems(
    r"no (?:rush|hurry|urgency)|not (?:\w+ )?urgent|nothing urgent|in no (?:rush|hurry)|"
    r"whenever (?:you|it)|when you (?:have|get|find) (?:the |a |some )?(?:time|moment|chance|minute)|"
    r"just (?:curious|wonder)|just want(?:ed)? to say|no need to (?:reply|answer)|take your time"
)
_PRESSING = _stems(
    r"urgent|immediate|asap\b|as soon as possible|emergenc|right (?:now|away)|at once\b|today|tonight|"
    r"tomorrow|deadline|within \d+ hours|"
    r"by (?:monday|tuesday|wednesday|thursday|friday|saturday|sunday|noon)\b|this afternoon|"
    r"this evening|smoke|sparks?\b|hacked|stolen|fraud|unauthori[sz]ed|locked out|lawyer|legal action|"
    r"chargeback|last warning|final notice|dangerous"
)
_NEAR = _stems(r"soon\b|waiting|this week|next week|next month|before it (?:is|leaves|ships)|cancel")
_TROUBLE = _stems(
    r"refund|warranty|correct(?:ed|ion)|expect|can(?: ?not|'t)|won't|does(?:n't| not)|stop(?:s|ped)|"
    r"error|problem|replace|repair|in transit"
)

_CATEGORIES = {
    "billing": _stems(
        r"invoice|bill(?:s|ed|ing)?\b|charged\b|overcharg|refund|payment|paid\b|credit card|debit|"
        r"my card|price|fees?\b|discount|voucher|coupon|vat\b|receipt|bank|money|subscription"
    ),
    "delivery": _stems(
        r"parcel|package|packaging|deliver|shipp|shipment|courier|tracking|arriv|dispatch|doorstep|"
        r"depot|pick-?up point|driver|postal|customs|in transit|box\b"
    ),
    "technical": _stems(
        r"app\b|error|crash|firmware|bugs?\b|install|update|screen|battery|charging|charger|wi-?fi|"
        r"bluetooth|sync|pairing|software|buttons?\b|sensor|export|api\b|server|display|motor|reboot|"
        r"restart|repair|reset|plug\b|overheat|turn on|switch|freez|manual\b|machine|faulty|heater"
    ),
    "account": _stems(
        r"account|password|log(?:ged|ging)? ?-?(?:in|out)\b|locked out|sign(?:ed)? in|user ?name|"
        r"two-factor|verification|profile|e-?mail address|membership|personal data|reset link|hacked|"
        r"newsletter"
    ),
}


def sentiment(text: str) -> str:
    """Whether pleased or displeased words prevail; a thank-you that is mere courtesy counts for nothing."""
    said = _COURTESY.sub(" ", text)
    pleased = _count(_POSITIVE, said) - 2 * _count(_NOT_PLEASED, said)
    score = pleased - _count(_NEGATIVE, said) + _count(_NOT_DISPLEASED, said)
    return "positive" if score > 0 else "negative" if score < 0 else "neutral"


def urgency(text: str) -> str:
    """High for danger and near dates, medium for open trouble, low for the rest and for "no rush"."""
    if _CALM.search(text):
        return "low"
    if _PRESSING.search(text):
        return "high"
    mood = sentiment(text)
    troubled = mood == "negative" or (mood == "neutral" and _TROUBLE.search(text))
    return "medium" if troubled or _NEAR.search(text) else "low"


def category(text: str) -> str:
    """The category with most keywords in the text, the earlier one on a tie; `other` when there are none."""
    counts = {name: _count(pattern, text) for name, pattern in _CATEGORIES.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else "other"


def _count(pattern: re.Pattern[str], text: str) -> int:
    return len(pattern.findall(text))


LABELS = {"sentiment": sentiment, "urgency": urgency, "category": category}
VALUES = {
    "sentiment": ("positive", "neutral", "negative"),
    "urgency": ("low", "medium", "high"),
    "category": (*_CATEGORIES, "other"),
}
