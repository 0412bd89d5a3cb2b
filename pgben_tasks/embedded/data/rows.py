"""The rows of the demonstration database, as lines of PostgreSQL's COPY text format.

Everything is drawn from one seed, so that two databases of one seed and size hold the same rows.
Nothing here talks to a server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pgben_tasks.embedded.data.text import (
    BENEFITS,
    NEIGHBOURHOODS,
    ORIGINS,
    TAGS,
    TODAY,
    UNIT_KINDS,
    WOMEN,
    Inventor,
)

#: Rows of the big tables per citizen, on average.
ROWS_PER_CITIZEN: Final = 20
_NULL: Final = "\\N"
_PATHS: Final = (
    ("aberta",),
    ("aberta", "em análise"),
    ("aberta", "em análise", "pendente"),
    ("aberta", "em análise", "indeferida"),
    ("aberta", "em análise", "aprovada", "liberada"),
    ("aberta", "em análise", "aprovada", "liberada", "concluída"),
    ("aberta", "em análise", "pendente", "em análise", "aprovada", "liberada", "concluída"),
)
_FILES: Final = (
    ("rg", "pdf", "application/pdf"),
    ("cpf", "jpg", "image/jpeg"),
    ("comprovante_residencia", "pdf", "application/pdf"),
    ("comprovante_renda", "pdf", "application/pdf"),
    ("certidao_nascimento", "pdf", "application/pdf"),
    ("laudo_medico", "jpg", "image/jpeg"),
    ("contrato_aluguel", "pdf", "application/pdf"),
    ("foto", "png", "image/png"),
)


_COLUMNS: Final = {
    "unidade": "id codigo nome tipo superior_id endereco bairros_atendidos",
    "usuario": "id nome email papeis unidade_id preferencias ultimo_acesso criado_em",
    "tipo_beneficio": "codigo nome valor_base parcelas_maximas vigencia regras",
    "cidadao": "id nome nome_social cpf nis sexo data_nascimento telefones endereco"
    " composicao_familiar renda_familiar banco representante_id unidade_id observacoes criado_em"
    " atualizado_em",
    "solicitacao": "id protocolo cidadao_id tipo_beneficio_id unidade_id tecnico_id situacao"
    " prioridade relato parecer dados etiquetas solicitacao_original_id aberta_em encerrada_em",
    "historico_solicitacao": "solicitacao_id de para usuario_id observacao em",
    "documento": "id solicitacao_id cidadao_id tipo nome_original caminho thumbnail tamanho"
    " hash_arquivo mimetype metadados enviado_por criado_em removed_at",
    "pagamento": "id competencia solicitacao_id parcela valor situacao autorizado_por pago_em"
    " comprovante",
    "auditoria.evento": "tabela operacao registro antes depois usuario endereco em",
}


@dataclass(frozen=True, slots=True)
class _Case:
    """What documents, history and payments need to know of a request."""

    id: str
    citizen: str
    benefit: int
    path: tuple[str, ...]
    opened: datetime


@dataclass
class Population:
    """All rows for a number of citizens, table by table, in the order of their references."""

    citizens: int
    seed: int
    _units: list[str] = field(default_factory=list)
    _users: list[str] = field(default_factory=list)
    _people: list[tuple[str, str]] = field(default_factory=list)
    _cases: list[_Case] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin the stream of random numbers."""
        self._invent = Inventor(self.seed)

    def tables(self) -> Iterator[tuple[str, tuple[str, ...], Iterator[str]]]:
        """Yield (table, columns, lines); each table's lines must be read before the next."""
        lines = {
            "unidade": self._unit_lines,
            "usuario": self._user_lines,
            "tipo_beneficio": self._benefit_lines,
            "cidadao": self._citizen_lines,
            "solicitacao": self._case_lines,
            "historico_solicitacao": self._history_lines,
            "documento": self._document_lines,
            "pagamento": self._payment_lines,
            "auditoria.evento": self._event_lines,
        }
        for table, generate in lines.items():
            yield table, tuple(_COLUMNS[table].split()), generate()

    def _unit_lines(self) -> Iterator[str]:
        invent = self._invent
        for number in range(min(60, len(UNIT_KINDS) + 1 + self.citizens // 200)):
            if number == 0:
                kind, name, above = "secretaria", "Secretaria de Assistência Social", None
            else:
                kind, title = UNIT_KINDS[number % len(UNIT_KINDS)]
                name = f"{title} {NEIGHBOURHOODS[number % len(NEIGHBOURHOODS)]}"
                above = self._units[(number - 1) // 6]
            self._units.append(invent.uuid())
            yield _line(
                *(self._units[-1], f"U{number:03d}", name, kind, above),
                _json(invent.address()),
                _array(invent.random.sample(NEIGHBOURHOODS, 3)),
            )

    def _user_lines(self) -> Iterator[str]:
        invent = self._invent
        for number in range(12 + self.citizens // 60):
            self._users.append(invent.uuid())
            name = invent.person()
            yield _line(
                *(self._users[-1], name, f"usuario{number:05d}@pgben.exemplo"),
                _array(["coordenador", "tecnico"] if number % 9 == 0 else ["tecnico"]),
                invent.pick(tuple(self._units)),
                _json({"tema": invent.pick(("claro", "escuro")), "itens": invent.number(10, 50)}),
                *(invent.moment().isoformat(), "2023-01-02T12:00:00Z"),
            )

    def _benefit_lines(self) -> Iterator[str]:
        for code, name, value, parts in BENEFITS:
            rules = {"renda_maxima": value * 2, "exige": ["cpf", "rg"], "renovavel": parts > 1}
            yield _line(code, name, value, parts, "[2023-01-01,)", _json(rules))

    def _citizen_lines(self) -> Iterator[str]:
        invent = self._invent
        seen: set[str] = set()
        for _ in range(self.citizens):
            female = invent.chance(0.62)
            cpf = invent.cpf()
            while cpf in seen:
                cpf = invent.cpf()
            seen.add(cpf)
            represented = bool(self._people) and invent.chance(0.06)
            created = invent.moment()
            unit = invent.pick(tuple(self._units[1:]))
            line = _line(
                *(citizen := invent.uuid(), invent.woman() if female else invent.man()),
                invent.person() if invent.chance(0.02) else None,
                *(cpf, invent.digits(11) if invent.chance(0.8) else None),
                *("feminino" if female else "masculino", invent.birthday().isoformat()),
                _array([invent.telephone() for _ in range(invent.number(0, 2))]),
                *(_json(invent.address()), _json(invent.family()), invent.money(0, 2200)),
                f"({invent.number(1, 400)},{invent.digits(4)},{invent.digits(6)}-1,{cpf})"
                if invent.chance(0.5)
                else None,
                self._people[invent.number(0, len(self._people) - 1)][0] if represented else None,
                *(unit, invent.remark(created) if invent.chance(0.4) else None),
                *(
                    created.isoformat(),
                    (created + timedelta(days=invent.number(0, 90))).isoformat(),
                ),
            )
            self._people.append((citizen, unit))
            yield line

    def _case_lines(self) -> Iterator[str]:
        invent = self._invent
        opened = sorted(invent.moment() for _ in range(self.citizens * 2))
        for number, moment in enumerate(opened):
            citizen, unit = self._people[invent.number(0, len(self._people) - 1)]
            path = _PATHS[int(invent.random.random() ** 0.7 * len(_PATHS))]
            benefit = invent.number(1, len(BENEFITS))
            data = {
                "origem": invent.pick(ORIGINS),
                "renda_declarada": float(invent.money(0, 2400)),
                "pessoas": invent.number(1, 9),
                "visita": {"feita": invent.chance(0.4), "por": invent.person()},
            }
            again = self._cases[invent.number(0, number - 1)].id if number % 17 == 16 else None  # noqa: PLR2004
            ended = path[-1] in {"concluída", "indeferida"}
            case = _Case(invent.uuid(), citizen, benefit, path, moment)
            yield _line(
                *(case.id, f"{moment.year}.{number + 1:07d}", citizen, benefit, unit),
                *(self._user() if len(path) > 1 else None, path[-1], invent.number(1, 5)),
                invent.account_of_need(moment),
                invent.opinion(moment) if len(path) > 1 else None,
                _json(data),
                _array(invent.random.sample(TAGS, invent.number(0, 3))),
                *(again, moment.isoformat()),
                (moment + timedelta(days=invent.number(3, 60))).isoformat() if ended else None,
            )
            self._cases.append(case)

    def _history_lines(self) -> Iterator[str]:
        invent = self._invent
        for case in self._cases:
            moment, before = case.opened, None
            for state in case.path:
                note = invent.remark(moment) if invent.chance(0.35) else None
                yield _line(case.id, before, state, self._user(), note, moment.isoformat())
                before = state
                moment += timedelta(seconds=invent.number(4_000, 900_000))

    def _document_lines(self) -> Iterator[str]:
        invent = self._invent
        for case in self._cases:
            for _ in range(invent.number(0, 4)):
                kind, suffix, mime = _FILES[invent.number(0, len(_FILES) - 1)]
                document = invent.uuid()
                when = case.opened + timedelta(seconds=invent.number(60, 500_000))
                picture = suffix != "pdf"
                yield _line(
                    *(document, case.id, case.citizen, kind),
                    f"{kind} {invent.pick(WOMEN)} {invent.number(1, 99)}.{suffix}",
                    f"{case.citizen}/solicitacoes/{case.id}/{kind}/{document}.{suffix}",
                    f"thumbnails/{document}.jpg" if picture else None,
                    *(invent.number(9_000, 4_000_000), invent.digest(), mime),
                    _json({"paginas": invent.number(1, 9), "origem": invent.pick(ORIGINS)}),
                    *(self._user(), when.isoformat()),
                    (when + timedelta(days=30)).isoformat() if invent.chance(0.05) else None,
                )

    def _payment_lines(self) -> Iterator[str]:
        invent = self._invent
        for case in self._cases:
            if "liberada" not in case.path:
                continue
            _code, _name, value, parts = BENEFITS[case.benefit - 1]
            month = case.opened.date().replace(day=1)
            for part in range(1, parts + 1):
                month = (month + timedelta(days=32)).replace(day=1)
                paid = month < TODAY.date()
                state = "agendado" if not paid else "devolvido" if invent.chance(0.03) else "pago"
                yield _line(
                    *(invent.uuid(), month.isoformat(), case.id, part),
                    *(f"{value + invent.number(0, 40)}.00", state, self._user()),
                    f"{month.isoformat()}T{invent.number(11, 20)}:{invent.number(10, 59)}:00Z"
                    if paid
                    else None,
                    f"PG{invent.digits(12)}" if paid else None,
                )

    def _event_lines(self) -> Iterator[str]:
        invent = self._invent
        for number in range(self.citizens):
            case = self._cases[invent.number(0, len(self._cases) - 1)]
            yield _line(
                *("solicitacao", "UPDATE", case.id),
                _json({"situacao": case.path[0], "tecnico": self._user()}),
                _json(
                    {
                        "situacao": case.path[-1],
                        "tecnico": self._user(),
                        "nota": invent.remark(case.opened),
                    }
                ),
                f"pgben_app_{number % 4}",
                f"10.{invent.number(0, 9)}.{invent.number(0, 255)}.{invent.number(1, 254)}",
                (case.opened + timedelta(minutes=invent.number(1, 5_000))).isoformat(),
            )

    def _user(self) -> str:
        return self._users[self._invent.number(0, len(self._users) - 1)]


def _line(*values: object) -> str:
    """Return one COPY line; no value here holds a tab, a newline or a backslash."""
    return "\t".join([_NULL if value is None else str(value) for value in values]) + "\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _array(values: list[str]) -> str:
    return "{" + ",".join(f'"{value}"' for value in values) + "}"
