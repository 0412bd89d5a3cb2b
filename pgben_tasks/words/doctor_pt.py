"""What results of `pgben doctor` say in Brazilian Portuguese. Nothing else.

What a failed check raised is quoted in English, as it stands in logs, and explained here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "any.failed": ("não foi possível examinar: {why}", "{remedy}"),
    "any.unseen": ("sem '{what}' não foi possível examinar", "corrija aquilo primeiro e repita"),
    "settings.failed": (
        "as configurações estão erradas: {why}",
        "corrija as variáveis PGBEN_*; docs/configuration.md descreve todas. {remedy}",
    ),
    "settings.ok": ("{count} de {all} configurações definidas; as outras têm o padrão", ""),
    "settings.ignored": (
        "variáveis de serviço do Kubernetes foram deixadas de lado: {names}",
        "use enableServiceLinks: false nos pods, como em k8s/",
    ),
    "settings.retired": (
        "configurações que nada obedecia foram aposentadas e são deixadas de lado: {names}",
        "retire-as do ambiente",
    ),
    "catalog.failed": (
        "o catálogo não pode ser usado: {why}",
        "confira PGBEN_CATALOG_URL e o servidor; perdido, volta com `pgben catalog rebuild`",
    ),
    "catalog.ok": ("o catálogo '{name}' em {server} responde e está atualizado", ""),
    "catalog_place.ok": ("o catálogo '{name}' está em um servidor próprio", ""),
    "catalog_place.same": (
        "o catálogo '{name}' está no servidor protegido {server} e se perde junto com ele",
        "coloque-o em outro servidor: PGBEN_CATALOG_URL, depois `pgben init`",
    ),
    "broker.failed": (
        "o Redis não pode ser usado: {why}",
        "confira PGBEN_REDIS_URL, a senha e se o Redis está no ar",
    ),
    "broker.ok": ("o Redis {version} responde", ""),
    "broker.old": ("o Redis {version} é anterior ao 6.2", "atualize o Redis para 6.2 ou mais novo"),
    "broker_memory.ok": ("o Redis guarda o que recebe: AOF ligado, sem descarte", ""),
    "broker_memory.evicts": (
        "o Redis pode descartar mensagens: maxmemory-policy é '{policy}'",
        "use 'maxmemory-policy noeviction' no redis.conf, em uma instância só do pgben",
    ),
    "broker_memory.volatile": (
        "o Redis esquece as mensagens quando reinicia",
        "use 'appendonly yes' e 'appendfsync everysec' no redis.conf",
    ),
    "broker_memory.unwritten": (
        "o Redis não consegue gravar o AOF",
        "veja o disco do Redis, o dono da pasta e o log",
    ),
    "queues.ok": ("mensagens à espera: {lengths}", ""),
    "queues.unread": (
        "{count} mensagem(ns) na fila '{queue}', e nenhum worker a lê",
        "inicie um com `python -m workers {queue}`",
    ),
    "repository.failed": (
        "o repositório não pode ser lido: {why}",
        "confira PGBEN_REPOSITORY, o volume e as credenciais; não rode `pgben init` às pressas",
    ),
    "repository.ok": (
        "{place} tem {backups} backup(s) de {targets} alvo(s); a identificação é {id}",
        "",
    ),
    "repository_writable.ok": ("o repositório aceita gravações", ""),
    "repository_writable.denied": (
        "este usuário não pode gravar no repositório '{path}'",
        "dê a pasta ao usuário dos workers, modo 0700",
    ),
    "repository_writable.owed": (
        "{count} registros de auditoria não chegam ao repositório, o mais antigo há {minutes} min",
        "veja o log do worker maintenance, a credencial dele e a chave de assinatura",
    ),
    "trusted_keys.failed": (
        "o arquivo de chaves confiáveis não serve: {why}",
        "use o arquivo que `pgben init` gravou e confira-o com o cartão de recuperação",
    ),
    "trusted_keys.ok": ("as chaves confiáveis são lidas de '{path}'", ""),
    "trusted_keys.none": (
        "não há chaves confiáveis, e nenhum backup pode ser aceito",
        "aponte PGBEN_TRUSTED_KEYS_FILE para o arquivo que `pgben init` gravou",
    ),
    "signing_key.failed": (
        "a chave de assinatura não serve: {why}",
        "confira PGBEN_SIGNING_KEY_FILE, o dono e o modo (chmod 600)",
    ),
    "signing_key.ok": ("a chave de assinatura {fingerprint}… vale como {roles}", ""),
    "signing_key.none": (
        "sem chave de assinatura: este processo consulta e pede, mas não grava nada",
        "workers precisam de PGBEN_SIGNING_KEY_FILE",
    ),
    "signing_key.untrusted": (
        "a chave de assinatura {fingerprint}… não está entre as confiáveis",
        "use a chave que `pgben init` fez, ou inclua a metade pública em todas as máquinas",
    ),
    "recipients.failed": (
        "os destinatários não servem: {why}",
        "PGBEN_AGE_RECIPIENTS leva chaves públicas (age1…), nunca secretas",
    ),
    "recipients.ok": ("os backups são cifrados para {count} destinatários", ""),
    "recipients.one": (
        "os backups são cifrados para um só destinatário: sem a chave dele, nunca mais abrem",
        "inclua a chave pública de custódia em PGBEN_AGE_RECIPIENTS",
    ),
    "recipients.none": (
        "a cifragem está ligada e não há destinatários",
        "ponha em PGBEN_AGE_RECIPIENTS as chaves públicas que `pgben init` mostrou",
    ),
    "recipients.off": (
        "a cifragem está desligada: quem lê o repositório lê os dados",
        "use PGBEN_ENCRYPTION=on e PGBEN_AGE_RECIPIENTS, a menos que seja de propósito",
    ),
    "identities.failed": (
        "uma identidade não serve: {why}",
        "confira o caminho, o dono e o modo do arquivo (chmod 600)",
    ),
    "identities.ok": ("as identidades só são lidas pelo dono: {files}", ""),
    "identities.none": ("não há identidade aqui, como é normal onde nada se restaura", ""),
    "opening.ok": ("'{path}' abre o que é cifrado agora", ""),
    "opening.none": ("nada é aberto aqui", ""),
    "opening.foreign": (
        "'{path}' não abre o que é cifrado agora",
        "aponte PGBEN_AGE_IDENTITY_FILE para a identidade de um dos PGBEN_AGE_RECIPIENTS",
    ),
    "escrow.ok": ("a chave de custódia não está junto das outras chaves", ""),
    "escrow.here": (
        "a chave de custódia ainda está nesta máquina: '{path}'",
        "copie-a para dois lugares fora desta máquina e apague-a aqui",
    ),
    "postgres.failed": (
        "um banco protegido não pode ser copiado: {why}",
        "confira PGBEN_DB_*, o servidor e a rede. {remedy}",
    ),
    "postgres.ok": ("{target} responde em {server}, PostgreSQL {version}, e pode ser copiado", ""),
    "buckets.ok": ("{target} responde em {server}", ""),
    "buckets.none": (
        "nenhum bucket é protegido: PGBEN_MINIO_ACCESS_KEY falta, ou o arquivo dela está vazio",
        "",
    ),
    "buckets.half": (
        "nenhum bucket é protegido: há PGBEN_MINIO_SECRET_KEY e falta PGBEN_MINIO_ACCESS_KEY",
        "defina as duas, ou nenhuma",
    ),
    "buckets.named": (
        "há buckets protegidos; aqui não há chave secreta, então nenhum é consultado",
        "",
    ),
    "buckets.missing": (
        "{target} não existe em {server}",
        "crie o bucket, ou corrija PGBEN_BUCKETS e PGBEN_MINIO_HOST",
    ),
    "buckets.blind": (
        "nenhuma identidade à mão abre inventários, então buckets não podem ser copiados daqui",
        "defina PGBEN_INVENTORY_IDENTITY_FILE nos workers que copiam buckets",
    ),
    "role.ok": ("'{user}' pode copiar e restaurar {target}", ""),
    "role.limited": (
        "'{user}' não é superusuário: copia {target}, mas não restaura",
        "dê aos workers de restore um superusuário em PGBEN_DB_USER",
    ),
    "clients.ok": ("{target} é copiado pelos clientes {version} em '{folder}'", ""),
    "clients.plain": (
        "{target} é copiado por clientes {version} em '{folder}' compilados sem zstd",
        "instale os clientes dos pacotes do PostgreSQL: o dump ocupa metade do espaço",
    ),
    "holes.ok": ("nenhuma versão em uso tem falha conhecida", ""),
    "holes.server": (
        "o servidor {where} é o PostgreSQL {version}, que tem a falha {hole}",
        "atualize-o para {mended} ou mais novo",
    ),
    "holes.client": (
        "os programas cliente em '{where}' são da versão {version}, que tem a falha {hole}",
        "atualize-os para {mended} ou mais novo",
    ),
    "clocks.ok": ("os relógios concordam: diferença de até {seconds} s", ""),
    "clocks.apart": (
        "o relógio de {server} está {seconds} s adiante do desta máquina",
        "use NTP em todas as máquinas (chrony, systemd-timesyncd)",
    ),
    "spool.ok": ("o spool '{path}' é privado e tem {free} livres", ""),
    "spool.absent": (
        "o spool '{path}' não existe",
        "o primeiro worker o cria; em máquina sem workers está certo",
    ),
    "spool.file": ("o spool '{path}' não é uma pasta", "PGBEN_SPOOL_DIR deve ser uma pasta"),
    "spool.mode": ("o spool '{path}' tem o modo {mode}", "rode `chmod 700 {path}`"),
    "spool.owner": (
        "o spool '{path}' é do usuário {owner}, e este é {user}",
        "rode o doctor como o usuário dos workers, ou dê a pasta a esse usuário",
    ),
    "spool.denied": (
        "não é possível gravar no spool '{path}'",
        "veja se o volume está montado só para leitura",
    ),
    "spool_room.ok": ("o maior banco ({needed}) cabe no spool ({left} livres)", ""),
    "spool_room.small": (
        "o maior banco ({needed}) pode não caber no spool '{path}' ({left} livres)",
        "abra espaço, use um volume maior ou aumente PGBEN_SPOOL_LIMIT",
    ),
    "node.ok": ("este é o nó '{node}'", ""),
    "node.new": ("nenhum worker rodou ainda com este spool", ""),
    "node.foreign": (
        "PGBEN_NODE é '{wanted}', e o spool '{path}' é de '{kept}'",
        "cada nó precisa do seu PGBEN_SPOOL_DIR",
    ),
    "disks.ok": ("{used} do disco de '{path}' em uso, {free} livres", ""),
    "disks.full": (
        "{used} do disco de '{path}' em uso, PGBEN_DISK_CRITICAL é {critical}",
        "abra espaço ou aumente o disco; nunca apague à mão arquivos de um repositório",
    ),
    "workers.ok": ("há workers de todos os papéis: {names}", ""),
    "workers.absent": (
        "nenhum worker do papel '{role}' está no ar",
        "inicie um com `python -m workers {role}`, ou todos com `python -m workers all`",
    ),
    "tick.ok": ("o reconciliador está rodando", ""),
    "tick.never": (
        "o reconciliador ainda não rodou",
        "o beat o acorda a cada minuto; se continuar assim, inicie `python -m workers beat`",
    ),
    "tick.without_beat": (
        "o beat está parado; um worker maintenance faz a vez dele",
        "inicie-o com `python -m workers beat`",
    ),
    "tick.silent": (
        "o reconciliador não roda há cinco minutos (última vez: {last})",
        "inicie o beat com `python -m workers beat`, e um worker maintenance",
    ),
    "mail.ok": ("falhas são avisadas a {to} por {host}", ""),
    "mail.incomplete": (
        "ninguém fica sabendo de uma falha por e-mail: falta {names}",
        "defina {names}",
    ),
    "backups.ok": ("{target} pode ser restaurado de {backup}, com {hours} h", ""),
    "backups.none": ("{target} não tem backup verificado", "rode `pgben backup {target}`"),
    "backups.old": (
        "o backup verificado mais novo de {target} tem {hours} h, e PGBEN_RPO é {rpo} h",
        "veja em `pgben jobs` por que o último falhou e rode `pgben backup {target}`",
    ),
    "verifications.ok": ("{target} foi lido por inteiro nos últimos {days} dias", ""),
    "verifications.overdue": (
        "os dados guardados de {target} não são lidos há mais de {days} dias",
        "rode `pgben verify --level full` e veja se o beat está no ar",
    ),
}
