"""One small inventory of speech sounds for all languages and synthesisers: sounds that look alike are merged.

Three notations are read: ARPAbet (CMU dictionary, pocketsphinx, flite, festival's English), the phone sets of
festival's other voices, and IPA (espeak-ng).
"""

from __future__ import annotations

import unicodedata

import numpy as np

CLASSES = (
    "sil p m f th t n s sh l r rr k ng x h w j i e eh a aa o oo u y schwa".split()
)  # 28: silence, 17 consonants, 10 vowels
ID = {name: i for i, name in enumerate(CLASSES)}
UNKNOWN = -1  # no loss there

# A diphthong or an affricate is two sounds, the first for the part of its time that is given.
_ARPA = {
    "SIL": "sil", "PAU": "sil", "P": "p", "B": "p", "M": "m", "F": "f", "V": "f", "TH": "th", "DH": "th", "T": "t", "D": "t",
    "DX": "t", "N": "n", "S": "s", "Z": "s", "SH": "sh", "ZH": "sh", "CH": "sh", "JH": "sh", "L": "l", "R": "r",
    "K": "k", "G": "k", "NG": "ng", "HH": "h", "HV": "h", "W": "w", "Y": "j", "IY": "i", "IH": "i", "EH": "eh",
    "AE": "a", "AA": "aa", "AH": "schwa", "AX": "schwa", "ER": "r", "AXR": "r", "AO": "o", "UH": "oo", "UW": "u",
    "IX": "i", "EY": ("e", "i"), "AY": ("a", "i"), "OY": ("o", "i"), "AW": ("a", "u"), "OW": ("o", "u"),
    "EL": "l", "EM": "m", "EN": "n", "NX": "n",
}  # fmt: skip

_IPA = {
    "p": "p b ɓ", "m": "m ɱ", "f": "f v ɸ β ʋ", "th": "θ ð", "t": "t d ʈ ɖ ɗ", "n": "n ɳ ɲ", "s": "s z",
    "sh": "ʃ ʒ ɕ ʑ ʂ ʐ", "l": "l ɫ ɭ ʎ ɬ", "r": "ɹ ɻ ɚ ɝ", "rr": "r ɾ ɽ", "k": "k g ɡ q ɢ c ɟ", "ng": "ŋ ɴ",
    "x": "x ɣ χ ʁ ç ʀ ʝ ħ ʕ", "h": "h ɦ ʔ", "w": "w ʍ ɥ", "j": "j", "i": "i ɪ ɨ ᵻ", "e": "e", "eh": "ɛ",
    "a": "a æ ɐ", "aa": "ɑ ɒ ʌ", "o": "ɔ o", "oo": "ʊ ɤ", "u": "u ɯ ʉ", "y": "y ʏ ø œ", "schwa": "ə ɜ ɘ ɵ",
}  # fmt: skip
_IPA_ID = {symbol: ID[name] for name, symbols in _IPA.items() for symbol in symbols.split()}


def from_arpabet(name: str) -> tuple[int, ...]:
    """ "AY" or "ay1" -> class numbers, one or two; empty if unknown."""
    found = _ARPA.get(name.upper().rstrip("012"), ())
    return tuple(ID[c] for c in ((found,) if isinstance(found, str) else found))


def from_ipa(text: str) -> tuple[int, ...]:
    """An IPA string of one sound, with any diacritics -> class numbers; empty if unknown."""
    plain = unicodedata.normalize("NFD", text)
    found = [_IPA_ID[c] for c in plain if c in _IPA_ID]
    if len(found) == 2 and found[0] == ID["t"] and found[1] in (ID["s"], ID["sh"]):
        return (found[1],)  # an affricate's mouth is its fricative's from the start
    return tuple(found[:2])


def frames(segments: list[tuple[float, float, tuple[int, ...]]], count: int, rate: float) -> np.ndarray:
    """Segments of (start, end in seconds, classes) -> (count,) int16 of the class at each frame's center."""
    out = np.full(count, UNKNOWN, np.int16)
    for start, end, classes in segments:
        for i, c in enumerate(classes):
            a, b = (start + (end - start) * (i + k) / len(classes) for k in (0, 1))
            out[max(0, round(a * rate)) : max(0, round(b * rate))] = c
    return out
