"""The words of the recovery card in the languages of PGBEN_LANGUAGE. Nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Language = Literal["pt_BR", "en"]

WORDS: Final[Mapping[Language, Mapping[str, str]]] = {
    "en": {
        "title": "pgben recovery card",
        "subtitle": (
            "Print this page and keep it with the escrow key, away from the servers. "
            "It holds no secret."
        ),
        "made": "made {at} by pgben {version}",
        "repository": "Where the backups are",
        "place": "repository",
        "id": "repository id",
        "keys": "Keys (public halves and fingerprints)",
        "operations": "operations key: opens backups, on restore workers only",
        "escrow": "escrow key: opens backups, kept offline",
        "signing": "signing key",
        "compare": (
            "On a new site, compare the fingerprints here with trusted-keys.json before believing "
            "any backup."
        ),
        "escrow_heading": "The escrow key",
        "escrow_text": (
            "The file {file} opens every backup. Print it or copy it to two media, lock them away "
            "in two places together with trusted-keys.json and recipients.txt, then delete it "
            "from the machine where it was made. Without this key and without the operations key, "
            "no backup can ever be opened again."
        ),
        "lies_at": "it lies at",
        "opened_by": "who can get it",
        "contacts": "People",
        "nobody": "name; mail; phone",
        "with_pgben": "Restoring with pgben",
        "with_pgben_text": (
            "Install pgben. Set PGBEN_REPOSITORY with its credentials, PGBEN_TRUSTED_KEYS_FILE to "
            "trusted-keys.json, PGBEN_AGE_IDENTITY_FILE to the escrow file, and PGBEN_DB_HOST, "
            "PGBEN_DB_USER, PGBEN_DB_PASS to the new server. `pgben list --direct` shows what "
            "there is, `pgben restore TARGET --direct --into NAME` brings it back; Redis, workers "
            "and a catalog are not needed. Afterwards `pgben catalog rebuild` makes the catalog "
            "anew."
        ),
        "by_hand": "Restoring by hand (age, tar, zstd, pg_restore)",
        "hand_1": (
            "1. From the repository, fetch backups/postgres/<database>/<backup>/manifest.json and "
            'every file under "packs" in it.'
        ),
        "hand_2": "2. The SHA-256 of every fetched pack must equal the one in the manifest.",
        "hand_3": (
            "3. Open every pack into one folder; those named .tar.zst.age go through zstd as well:"
        ),
        "hand_4": (
            "4. Encoding, locale and owner of the new database stand in the manifest under "
            '"postgres"; create roles that are missing with CREATE ROLE … NOLOGIN '
            "(globals.sql names them). Never feed a dump to psql."
        ),
        "hand_5": '5. Compare the rows of every table with "tables" in the manifest.',
        "hand_6": (
            "6. Apply grants, settings and comment from the manifest, run ANALYZE, then let the "
            "application in."
        ),
    },
    "pt_BR": {
        "title": "Cartão de recuperação do pgben",
        "subtitle": (
            "Imprima esta página e guarde-a com a chave de custódia, longe dos servidores. "
            "Ela não contém nenhum segredo."
        ),
        "made": "feito em {at} pelo pgben {version}",
        "repository": "Onde estão os backups",
        "place": "repositório",
        "id": "identificação do repositório",
        "keys": "Chaves (partes públicas e impressões digitais)",
        "operations": "chave de operação: abre backups, só nos workers de restauração",
        "escrow": "chave de custódia: abre backups, guardada fora de linha",
        "signing": "chave de assinatura",
        "compare": (
            "Em uma instalação nova, compare as impressões digitais desta página com o arquivo "
            "trusted-keys.json antes de confiar em qualquer backup."
        ),
        "escrow_heading": "A chave de custódia",
        "escrow_text": (
            "O arquivo {file} abre todos os backups. Imprima-o ou copie-o para duas mídias, "
            "tranque-as em dois lugares com trusted-keys.json e recipients.txt e depois apague-o "
            "da máquina onde foi feito. Sem esta chave e sem a chave de operação, nenhum backup "
            "poderá ser aberto."
        ),
        "lies_at": "ela está em",
        "opened_by": "quem tem acesso",
        "contacts": "Pessoas",
        "nobody": "nome; e-mail; telefone",
        "with_pgben": "Restaurar com o pgben",
        "with_pgben_text": (
            "Instale o pgben. Configure PGBEN_REPOSITORY com suas credenciais, "
            "PGBEN_TRUSTED_KEYS_FILE com trusted-keys.json, PGBEN_AGE_IDENTITY_FILE com o arquivo "
            "de custódia, e PGBEN_DB_HOST, PGBEN_DB_USER, PGBEN_DB_PASS com o servidor novo. "
            "`pgben list --direct` mostra o que há, `pgben restore ALVO --direct --into NOME` "
            "restaura; Redis, workers e catálogo não são necessários. Depois, `pgben catalog "
            "rebuild` refaz o catálogo."
        ),
        "by_hand": "Restaurar à mão (age, tar, zstd, pg_restore)",
        "hand_1": (
            "1. Do repositório, busque backups/postgres/<banco>/<backup>/manifest.json e todos os "
            'arquivos listados nele em "packs".'
        ),
        "hand_2": "2. O SHA-256 de cada pacote buscado deve ser igual ao do manifesto.",
        "hand_3": (
            "3. Abra todos os pacotes em uma só pasta; os de nome .tar.zst.age passam também pelo "
            "zstd:"
        ),
        "hand_4": (
            '4. Codificação, localidade e dono do novo banco estão no manifesto, em "postgres"; '
            "crie os papéis que faltarem com CREATE ROLE … NOLOGIN (globals.sql os lista). "
            "Nunca entregue um dump ao psql."
        ),
        "hand_5": '5. Compare as linhas de cada tabela com "tables" no manifesto.',
        "hand_6": (
            "6. Aplique permissões, configurações e comentário do manifesto, execute ANALYZE e só "
            "então libere a aplicação."
        ),
    },
}
