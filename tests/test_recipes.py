"""How the shipped weights are made: sounds, noises, augmentation, ridge."""

import numpy as np
import pytest
import torch


@pytest.mark.parametrize(
    ("ipa", "classes"),
    [("oʊ", "o oo"), ("tʃ", "sh"), ("ts", "s"), ("b", "p"), ("ɹ̩", "r"), ("aɪ", "a i"), ("?", "")],
)
def test_sounds_of_all_languages_are_merged(ipa, classes):
    from recipes.phones import ID, from_ipa

    assert from_ipa(ipa) == tuple(ID[c] for c in classes.split())


def test_diphthongs_are_two_sounds_in_time():
    from recipes.phones import ID, frames, from_arpabet

    told = frames([(0.0, 0.1, from_arpabet("SIL")), (0.1, 0.3, from_arpabet("AY1"))], 20, 50)
    assert list(told[:15]) == [ID["sil"]] * 5 + [ID["a"]] * 5 + [ID["i"]] * 5
    assert (told[15:] == -1).all()


def test_augmented_sound_is_sound():
    from recipes.augment import augment

    mel = torch.full((6, 80, 80), -13.8)
    mel[:, 20:60] += 8 * torch.rand(6, 40, 80)
    made = augment(mel, torch.Generator().manual_seed(0))
    assert made.shape == mel.shape and torch.isfinite(made).all()
    assert not torch.equal(made, augment(mel, torch.Generator().manual_seed(1)))
    assert torch.equal(made, augment(mel, torch.Generator().manual_seed(0)))


def test_noises_are_different_every_time_and_within_bounds():
    from recipes.noise import KINDS

    for name, make in KINDS.items():
        one, other = (make(1.0, np.random.default_rng(seed)) for seed in (0, 1))
        assert one.shape == (16_000,) and np.isfinite(one).all() and np.abs(one).max() <= 1.0 + 1e-6, name
        assert name == "silence" or not np.allclose(one, other)


def test_ridge_leaves_people_out():
    """Lips that are a rule of the features are told for the one who was left out; others' noise is not."""
    from recipes.lips import Ridge, Take, leave_out

    random = np.random.default_rng(0)
    rule = random.standard_normal((6, 33)) * 0.02
    takes, features = [], {}
    for person in "abcd":
        x = random.standard_normal((200, 6))
        features[person] = x
        takes.append(Take(person, person, "en", x[:, 0].astype(np.float32), (x @ rule).astype(np.float32)))
    ridge = Ridge(takes, features, 1.0)
    assert set(ridge.sums) == set("abcd")
    sounds = {id(t.sound): features[t.name] for t in takes}
    assert leave_out(takes, lambda sound: sounds[id(sound)])["gap"] > 0.95
