"""The words of alarm mails in the languages of PGBEN_LANGUAGE. Nothing else.

The sentences and hints of errors come as they are, in English, like the program's own output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pgben_tasks.words.recovery import Language

WORDS: Final[Mapping[Language, Mapping[str, str]]] = {
    "en": {
        # What a job does; stands before its target.
        "backup": "backup of {target}",
        "restore": "restore of {target}",
        "verify": "verification of {target}",
        "prune": "retention of {target}",
        "undo": "undoing of a swap of {target}",
        "acknowledge": "acknowledgement of a backup of {target}",
        "sweep": "sweep of {target}",
        "everything": "everything",
        # One line for each kind of alarm: subjects and headings.
        "failed": "{work} failed",
        "refused": "{work} was refused",
        "damaged": "damage found, {work}",
        "suspect": "{work} is suspect",
        "overdue": "{work} is overdue",
        "stale": "{target} has no recent verified backup",
        "silent": "the scheduler (beat) is silent",
        "subject": "[pgben] ALARM: {headline}",
        "subject_more": "[pgben] ALARM: {headline} (and {count} more)",
        # What happened, where no error says it.
        "not_begun": "its job was written and no worker has begun it",
        "not_ended": "its job has begun and does not come to an end",
        "missed": "its window passed without any job, and is not made up for any more",
        "stale_what": "the newest verified backup is older than {hours} h, and none is under way",
        "silent_what": (
            "no tick of beat has been run; the maintenance worker does its work meanwhile, but "
            "only every five minutes"
        ),
        # Labels.
        "happened": "What happened",
        "hint": "Hint",
        "when": "When",
        "about": "Target",
        "job": "Job",
        "requested_by": "Asked for by",
        "step": "Step",
        "window": "Window",
        "backup_id": "Backup",
        "last_sign": "Last sign of life",
        "next_attempt": "Next attempt",
        "no_attempt": "none by itself",
        "restorable": "Can be restored",
        "restorable_what": "backup {backup}, data as of {moment} ({age} old), {state}",
        "restorable_none": "nothing: there is no verified backup",
        "to_do": "What to do",
        "contacts": "Contacts",
        "others": "Further alarms, told only by their number:",
        "see_alarms": "`pgben alarms` lists them.",
        "many_failed": "a job failed",
        "many_refused": "a request was refused",
        "many_damaged": "damage was found",
        "many_suspect": "a backup is suspect",
        "many_overdue": "a window is overdue",
        "many_stale": "a target has no recent verified backup",
        "many_silent": "the scheduler was silent",
        "runbook": "docs/operations.md, “{section}”",
        "on_failed": "A backup failed",
        "on_refused": "Alarms",
        "on_damaged": "Verification found damage",
        "on_suspect": "A backup is suspect",
        "on_overdue": "Nothing happened last night",
        "on_stale": "Alarms",
        "on_silent": "Alarms",
        "footer": ("Sent by pgben on {node}. Nobody reads answers. Times are those of {zone}."),
        # The test.
        "test_subject": "[pgben] TEST: alarms arrive here",
        "test_body": "This is a test. Nothing happened: if you read this, alarms will reach you.",
    },
    "pt_BR": {
        "backup": "backup de {target}",
        "restore": "restauração de {target}",
        "verify": "verificação de {target}",
        "prune": "retenção de {target}",
        "undo": "reversão de uma troca de {target}",
        "acknowledge": "reconhecimento de um backup de {target}",
        "sweep": "limpeza de {target}",
        "everything": "tudo",
        "failed": "{work} falhou",
        "refused": "pedido recusado, {work}",
        "damaged": "dano encontrado, {work}",
        "suspect": "{work} é suspeito",
        "overdue": "atraso, {work}",
        "stale": "{target} está sem backup verificado recente",
        "silent": "o agendador (beat) está em silêncio",
        "subject": "[pgben] ALARME: {headline}",
        "subject_more": "[pgben] ALARME: {headline} (e mais {count})",
        "not_begun": "o trabalho foi criado e nenhum worker o começou",
        "not_ended": "o trabalho começou e não chega ao fim",
        "missed": "o horário passou sem nenhum trabalho e não será mais compensado",
        "stale_what": (
            "o backup verificado mais novo tem mais de {hours} h, e nenhum está em andamento"
        ),
        "silent_what": (
            "nenhum sinal do beat foi processado; o worker de manutenção faz o trabalho dele "
            "enquanto isso, mas só a cada cinco minutos"
        ),
        "happened": "O que aconteceu",
        "hint": "Dica",
        "when": "Quando",
        "about": "Alvo",
        "job": "Trabalho",
        "requested_by": "Pedido por",
        "step": "Passo",
        "window": "Horário agendado",
        "backup_id": "Backup",
        "last_sign": "Último sinal de vida",
        "next_attempt": "Próxima tentativa",
        "no_attempt": "nenhuma automática",
        "restorable": "Pode ser restaurado",
        "restorable_what": "backup {backup}, dados de {moment} (há {age}), {state}",
        "restorable_none": "nada: não há backup verificado",
        "to_do": "O que fazer",
        "contacts": "Contatos",
        "others": "Outros alarmes, apenas contados:",
        "see_alarms": "`pgben alarms` mostra todos.",
        "many_failed": "um trabalho falhou",
        "many_refused": "um pedido foi recusado",
        "many_damaged": "foi encontrado dano",
        "many_suspect": "um backup é suspeito",
        "many_overdue": "um horário está atrasado",
        "many_stale": "um alvo está sem backup verificado recente",
        "many_silent": "o agendador ficou em silêncio",
        "runbook": "docs/pt_BR/operacao.md, “{section}”",
        "on_failed": "Quando algo falha",
        "on_refused": "Alarmes",
        "on_damaged": "A verificação encontrou dano",
        "on_suspect": "O backup é suspeito",
        "on_overdue": "Quando algo falha",
        "on_stale": "Alarmes",
        "on_silent": "Alarmes",
        "footer": (
            "Enviado pelo pgben em {node}. Ninguém lê as respostas. Os horários são os de {zone}."
        ),
        "test_subject": "[pgben] TESTE: os alarmes chegam aqui",
        "test_body": (
            "Isto é um teste. Nada aconteceu: se você está lendo isto, os alarmes vão chegar."
        ),
    },
}
