"""Invented people, numbers and case texts of the demonstration data, the same for one seed.

Nothing here knows tables; ``demo_rows.py`` turns these values into rows.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from pgben_tasks.embedded.data import words

#: The demonstration's "today"; a fixed day keeps the data the same for one seed.
TODAY: Final = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)
_FIRST_DAY: Final = datetime(2023, 1, 9, 11, 0, tzinfo=UTC)
_SPAN: Final = int((TODAY - _FIRST_DAY).total_seconds())
_SLOT: Final = re.compile(r"\{(\w+)\}")


def _compiled(templates: tuple[str, ...]) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """Split templates into their fixed parts and the kinds of values between these."""
    split = [_SLOT.split(template) for template in templates]
    return tuple((tuple(parts[::2]), tuple(parts[1::2])) for parts in split)


_OPENINGS: Final = _compiled(words.OPENINGS)
_REASONS: Final = _compiled(words.REASONS)
_FINDINGS: Final = _compiled(words.FINDINGS)
_CLOSINGS: Final = _compiled(words.CLOSINGS)
_REMARKS: Final = _compiled(words.REMARKS)
_Templates = tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]


class Inventor:
    """Invents believable values from one stream of random numbers."""

    def __init__(self, seed: int) -> None:
        """Begin the stream of ``seed``."""
        self.random = random.Random(seed)  # noqa: S311 - invented data, not secrets
        self._draw = self.random.random
        #: The moment that the dates in texts lie around.
        self._about = TODAY
        draw = self._draw
        self._slots: dict[str, Callable[[], str]] = {
            "agencia": lambda: f"{int(draw() * 9000) + 1000}-{int(draw() * 10)}",
            "bairro": lambda: self.pick(words.NEIGHBOURHOODS),
            "casa": lambda: str(int(draw() * 2400) + 1),
            "comodos": lambda: str(int(draw() * 5) + 1),
            "criancas": lambda: str(int(draw() * 5) + 1),
            "dia": lambda: (self._about + timedelta(days=int(draw() * 60) - 45)).strftime(
                "%d/%m/%Y"
            ),
            "hora": lambda: str(int(draw() * 10) + 8),
            "idade": lambda: str(int(draw() * 70) + 18),
            "meses": lambda: str(int(draw() * 17) + 2),
            "motivo": lambda: f"{self._fill(_REASONS)}.",
            "nis": lambda: self.digits(11),
            "numero": lambda: f"{int(draw() * 90000) + 10000}/{int(draw() * 4) + 2023}",
            "ocupacao": lambda: self.pick(words.OCCUPATIONS),
            "origem": lambda: self.pick(words.ORIGINS),
            "parcelas": lambda: str(int(draw() * 6) + 1),
            "parente": lambda: self.pick(words.KINSHIP),
            "pessoa": self.person,
            "pessoas": lambda: str(int(draw() * 7) + 2),
            "porcento": lambda: str(int(draw() * 60) + 40),
            "prazo": lambda: str(int(draw() * 25) + 5),
            "prioridade": lambda: str(int(draw() * 5) + 1),
            "rua": lambda: self.pick(words.STREETS),
            "telefone": self.telephone,
            "valor": lambda: self.money(80, 2400).replace(".", ","),
        }

    def pick(self, choices: tuple[str, ...]) -> str:
        """Choose one of ``choices``."""
        return choices[int(self._draw() * len(choices))]

    def chance(self, share: float) -> bool:
        """Say yes in ``share`` of the calls."""
        return self._draw() < share

    def number(self, low: int, high: int) -> int:
        """Draw a whole number from ``low`` to ``high``, both included."""
        return low + int(self._draw() * (high - low + 1))

    def digits(self, count: int) -> str:
        """Draw decimal digits."""
        return f"{int(self._draw() * 10**count):0{count}d}"

    def money(self, low: int, high: int) -> str:
        """Draw an amount with two decimals."""
        return f"{low + self._draw() * (high - low):.2f}"

    def uuid(self) -> str:
        """Draw a version 4 UUID."""
        return str(UUID(int=self.random.getrandbits(128), version=4))

    def digest(self) -> str:
        """Draw what a SHA-256 looks like, in hex."""
        return f"{self.random.getrandbits(256):064x}"

    def moment(self) -> datetime:
        """Draw a moment of the platform's life, more of the recent ones."""
        return _FIRST_DAY + timedelta(seconds=int(_SPAN * self._draw() ** 0.7))

    def birthday(self) -> date:
        """Draw the day an adult was born."""
        return date(1938 + int(self._draw() * 70), 1, 1) + timedelta(days=int(self._draw() * 365))

    def telephone(self) -> str:
        """Draw a mobile number."""
        return f"(84) 9{self.digits(4)}-{self.digits(4)}"

    def cpf(self) -> str:
        """Draw a CPF number with its two check digits."""
        return with_check_digits(self.digits(9))

    def person(self) -> str:
        """Draw a full name."""
        return self.woman() if self.chance(0.6) else self.man()

    def woman(self) -> str:
        """Draw a woman's name."""
        return self._named(words.WOMEN)

    def man(self) -> str:
        """Draw a man's name."""
        return self._named(words.MEN)

    def _named(self, first_names: tuple[str, ...]) -> str:
        first = self.pick(first_names)
        if self.chance(0.3):
            first = f"{first} {self.pick(first_names)}"
        return f"{first} {self.pick(words.FAMILY_NAMES)} {self.pick(words.FAMILY_NAMES)}"

    def address(self) -> dict[str, Any]:
        """Draw an address."""
        return {
            "logradouro": f"{self.pick(('Rua', 'Rua', 'Travessa', 'Avenida'))} "
            f"{self.pick(words.STREETS)}",
            "numero": self.number(1, 2400),
            "bairro": self.pick(words.NEIGHBOURHOODS),
            "cep": f"59{self.digits(3)}-{self.digits(3)}",
        }

    def family(self) -> list[dict[str, Any]]:
        """Draw up to four people who live with somebody."""
        return [
            {
                "nome": self.person(),
                "parentesco": self.pick(words.KINSHIP),
                "nascimento": self.birthday().isoformat(),
                "ocupacao": self.pick(words.OCCUPATIONS),
            }
            for _ in range(self.number(0, 4))
        ]

    def remark(self, about: datetime) -> str:
        """Write one remark about a person, made ``about`` that day."""
        self._about = about
        return self._fill(_REMARKS)

    def account_of_need(self, about: datetime) -> str:
        """Write what a person told ``about`` that day: an opening and some findings."""
        self._about = about
        findings = (self._fill(_FINDINGS) for _ in range(self.number(2, 5)))
        return " ".join((self._fill(_OPENINGS), *findings))

    def opinion(self, about: datetime) -> str:
        """Write a social worker's opinion ``about`` that day."""
        self._about = about
        findings = (self._fill(_FINDINGS) for _ in range(self.number(1, 3)))
        return " ".join((*findings, self._fill(_CLOSINGS)))

    def _fill(self, templates: _Templates) -> str:
        fixed, kinds = templates[int(self._draw() * len(templates))]
        pieces = [fixed[0]]
        for kind, after in zip(kinds, fixed[1:], strict=True):
            pieces.append(self._slots[kind]())
            pieces.append(after)
        return "".join(pieces)


def with_check_digits(nine: str) -> str:
    """Append a CPF's two check digits to its first nine."""
    digits = [int(character) for character in nine]
    for _ in range(2):
        weights = range(len(digits) + 1, 1, -1)
        rest = sum(digit * weight for digit, weight in zip(digits, weights, strict=True)) % 11
        digits.append(0 if rest < 2 else 11 - rest)  # noqa: PLR2004 - the rule of the CPF
    return "".join(map(str, digits))
