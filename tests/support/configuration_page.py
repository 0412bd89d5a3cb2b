"""Writes the pages of settings, docs/configuration.md and its counterparts: ``make configuration``.

A test compares the pages with what this gives, so that they never lag behind the model. What is
said of a setting is translated by the catalogue of texts, the rest of a page stands here.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pgben_tasks.language import Language, translate
from pgben_tasks.settings.model import Settings, is_secret, show_setting
from pgben_tasks.settings.sources import PREFIX, RETIRED

_DOCS: Final = Path(__file__).parents[2] / "docs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page's place and its own words; ``headings`` stand before the first field of each part."""

    path: Path
    introduction: str
    retired: str
    headings: Mapping[str, str]
    columns: tuple[str, str, str]
    not_set: str


_ENGLISH: Final = """\
# Configuration

This page is made from the settings' model by `make configuration`; a test keeps it current.

Everything is an environment variable; `pgben --env-file FILE` sets those of a file for one command
([Loading the settings](operations.md#loading-the-settings)). `pgben config` shows the effective
values, where each came from, and no secrets. All faults are reported at once, and an unknown
`PGBEN_*` variable is a fault that names the nearest setting; only what Kubernetes injects for
Services named `pgben-…`, and retired settings, are ignored, with a line in the log and a warning of
`pgben doctor`.

- **Secrets** (marked 🔒) may also come from a file: `NAME_FILE` names it. Setting both is a fault.
- **Empty** variables count as not set. An empty file is a fault; those of `PGBEN_MINIO_ACCESS_KEY`
  and `PGBEN_MINIO_SECRET_KEY` say that no bucket is protected.
- **Durations** are written `12h`, `7d`, `30min` or `1d12h`; **sizes** `64MiB`; **shares** as a
  fraction of 1, `0.2`; **switches** `on` or `off`; **lists** with commas.
- **What cannot work** is refused when it is read: a port or a user in a host's name, a name that no
  bucket can have, a relative folder, a mistyped key, a size or number beyond what can be used.
  **What is doubtful** works, with a line in the log and a warning of `pgben config` and
  `pgben doctor`: a mail address without a domain, the databases `postgres` and `template1`.
- **Schedules** are cron lines of five fields, read in `PGBEN_TIMEZONE`: a local time that does not
  exist runs at the next minute, one that exists twice runs once.
{retired}

## Several database servers

`PGBEN_SERVERS_FILE` names a TOML file with one table for each further server. Its name is free;
targets are named by database alone, so a name may occur on one server only.

```toml
[reports]
host = "reports.example.org"
port = 5432                                 # default
user = "backup"                             # default: postgres
password_file = "/run/secrets/reports"      # or: password = "…"
databases = ["reports", "archive"]
```
"""


_PORTUGUESE: Final = """\
# Configuração

Esta página é gerada a partir do modelo das configurações por `make configuration`; um teste a
mantém em dia.

Toda configuração é uma variável de ambiente. `pgben config` mostra os valores em vigor e de onde
veio cada um, sem mostrar segredos. Todos os erros são informados de uma vez, e uma variável
`PGBEN_*` desconhecida é um erro que sugere o nome mais parecido; só o que o Kubernetes injeta para
Services chamados `pgben-…` e as configurações retiradas são ignorados, com uma linha no log e um
aviso do `pgben doctor`.

- **Segredos** (marcados com 🔒) também podem vir de um arquivo, indicado por `NOME_FILE`. Definir
  os dois é um erro.
- Variáveis **vazias** contam como não definidas. Um arquivo vazio é um erro; os de
  `PGBEN_MINIO_ACCESS_KEY` e `PGBEN_MINIO_SECRET_KEY`, vazios, dizem que nenhum bucket é protegido.
- **Durações** são escritas como `12h`, `7d`, `30min` ou `1d12h`; **tamanhos**, como `64MiB`;
  **frações**, como parte de 1: `0.2`; **opções de ligar e desligar**, `on` ou `off`; **listas**,
  com vírgulas.
- **O que não pode funcionar** é recusado na leitura: uma porta ou um usuário no nome de um host,
  um nome que nenhum bucket pode ter, uma pasta relativa, uma chave digitada errado, um tamanho ou
  número além do que se pode usar. **O que é duvidoso** funciona, com uma linha no log e um aviso
  do `pgben config` e do `pgben doctor`: um endereço de e-mail sem domínio, os bancos `postgres` e
  `template1`.
- **Agendamentos** são linhas do cron com cinco campos, lidas em `PGBEN_TIMEZONE`: um horário local
  que não existe roda no minuto seguinte, e um que existe duas vezes roda uma vez só.
{retired}

## Vários servidores de banco de dados

`PGBEN_SERVERS_FILE` indica um arquivo TOML com uma tabela para cada servidor adicional. O nome da
tabela é livre; os alvos são identificados só pelo nome do banco, por isso um nome pode existir em
um único servidor.

```toml
[reports]
host = "reports.example.org"
port = 5432                                 # padrão
user = "backup"                             # padrão: postgres
password_file = "/run/secrets/reports"      # ou: password = "…"
databases = ["reports", "archive"]
```
"""

PAGES: Final[Mapping[Language, Page]] = {
    "en": Page(
        path=_DOCS / "configuration.md",
        introduction=_ENGLISH,
        retired="- **Retired** settings, which nothing ever obeyed: {names}. A later version may "
        "bring one back.",
        headings={
            "db_host": "Protected databases",
            "minio_host": "Protected buckets",
            "repository": "Repository, logs and spool",
            "redis_url": "Queue and catalog",
            "schedule_postgres": "Schedules",
            "retention_days": "Retention and plausibility",
            "verify_days": "Objectives",
            "keep_replaced": "Backing up and restoring",
            "age_recipients": "Keys",
            "smtp_host": "Reports and alerts",
        },
        columns=("setting", "default", "meaning"),
        not_set="not set",
    ),
    "pt_BR": Page(
        path=_DOCS / "pt_BR" / "configuracao.md",
        introduction=_PORTUGUESE,
        retired="- Configurações **retiradas**, que nunca tiveram efeito: {names}. Uma versão "
        "futura pode trazer alguma de volta.",
        headings={
            "db_host": "Bancos protegidos",
            "minio_host": "Buckets protegidos",
            "repository": "Repositório, logs e spool",
            "redis_url": "Fila e catálogo",
            "schedule_postgres": "Agendamentos",
            "retention_days": "Retenção e plausibilidade",
            "verify_days": "Objetivos",
            "keep_replaced": "Backup e restauração",
            "age_recipients": "Chaves",
            "smtp_host": "Relatórios e alarmes",
        },
        columns=("configuração", "padrão", "significado"),
        not_set="não definido",
    ),
}


def text_of(language: Language) -> str:
    """Return a whole page."""
    page = PAGES[language]
    introduction = page.introduction.replace("{retired}", _retired(page))
    return "\n".join([introduction, *_lines(page, language)]) + "\n"


def _retired(page: Page) -> str:
    names = ", ".join(f"`{name}`" for name in sorted(RETIRED) if not name.endswith("_FILE"))
    return textwrap.fill(page.retired.format(names=names), width=100, subsequent_indent="  ")


def _lines(page: Page, language: Language) -> Iterator[str]:
    for field, info in Settings.model_fields.items():
        if field in page.headings:
            yield from (
                f"## {page.headings[field]}",
                "",
                f"| {' | '.join(page.columns)} |",
                "|---|---|---|",
            )
        lock = " 🔒" if is_secret(field) else ""
        meaning = translate(info.description or "", language)
        default = _default(field, info, page, language)
        yield f"| `{PREFIX}{field.upper()}`{lock} | {default} | {meaning} |"
        if _NEXT.get(field) in page.headings:
            yield ""


def _default(field: str, info: FieldInfo, page: Page, language: Language) -> str:
    found_later = info.default is PydanticUndefined
    shown = show_setting(field, None if found_later else info.default)
    if not found_later and info.default not in {None, ()}:
        return f"`{shown}`"
    return page.not_set if shown == PAGES["en"].not_set else translate(shown, language)


_NEXT: Final = dict(pairwise(Settings.model_fields))

if __name__ == "__main__":
    for language, page in PAGES.items():
        page.path.write_text(text_of(language), encoding="utf-8")
