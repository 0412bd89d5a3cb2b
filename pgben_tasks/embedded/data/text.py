"""Invented people, numbers and case texts of the demonstration data, the same for one seed.

Portuguese words and templates of sentences, and what draws from them. Everybody and everything is
invented. Nothing here knows tables; ``rows.py`` turns these values into rows.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

#: The demonstration's "today"; a fixed day keeps the data the same for one seed.
TODAY: Final = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)
_FIRST_DAY: Final = datetime(2023, 1, 9, 11, 0, tzinfo=UTC)
_SPAN: Final = int((TODAY - _FIRST_DAY).total_seconds())
_SLOT: Final = re.compile(r"\{(\w+)\}")


_Templates = tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]


def _compiled(*templates: str) -> _Templates:
    """Return templates split into their fixed parts and the kinds of values between these."""
    split = [_SLOT.split(template) for template in templates]
    return tuple((tuple(parts[::2]), tuple(parts[1::2])) for parts in split)


def _words(text: str) -> tuple[str, ...]:
    """Return the words of a text; ``_`` stands for a space inside one."""
    return tuple(word.replace("_", " ") for word in text.split())


WOMEN: Final = _words(
    """Adriana Alícia Aline Amanda Ana Andréa Ângela Antônia Aparecida Beatriz Bianca Bruna Camila
    Carla Carolina Cássia Cecília Célia Clara Cláudia Conceição Cristina Daniela Débora
    Denise Edileusa Elaine Eliane Elisângela Érica Eunice Fabiana Fátima Fernanda Flávia
    Francisca Gabriela Geórgia Gilvanete Glória Helena Heloísa Inês Iolanda Íris Isabel
    Ivone Janaína Jéssica Joana Josefa Júlia Juliana Jussara Karina Lara Larissa Laura
    Letícia Lígia Lívia Lourdes Luana Lúcia Luísa Luzia Maísa Marcela Márcia Margarida Maria
    Mariana Marlene Marta Mônica Nádia Natália Neide Noêmia Patrícia Paula Priscila Raimunda
    Rayane Rebeca Regina Renata Rita Roberta Rosa Rosângela Sabrina Samara Sandra Sebastiana
    Severina Silvana Sílvia Simone Solange Sônia Stéfany Sueli Tânia Tatiane Teresa Thaís
    Valéria Vanessa Vera Verônica Vitória Viviane Yasmin Zélia Zuleide"""
)
MEN: Final = _words(
    """Adalberto Adriano Afonso Alberto Alexandre Álvaro Anderson André Ângelo Antônio Arthur
    Augusto Benedito Bernardo Bruno Caio Carlos César Cícero Cláudio Daniel Davi Diego
    Djalma Edmilson Edson Eduardo Elias Emanuel Enzo Erivaldo Evandro Fábio Felipe Fernando
    Flávio Francisco Gabriel Geraldo Gilberto Gilson Guilherme Gustavo Heitor Hélio Henrique
    Hugo Ícaro Isaías Ivan Jailson Jeferson João Joaquim Jonas Jorge José Josué Júlio Kauã
    Leandro Leonardo Lucas Luciano Luís Manoel Marcelo Márcio Marcos Mateus Maurício Miguel
    Moisés Natanael Nélson Nilton Orlando Otávio Paulo Pedro Rafael Raimundo Raul Reginaldo
    Renan Ricardo Roberto Rodrigo Rogério Romário Ronaldo Rubens Samuel Sandro Sebastião
    Sérgio Severino Sidney Tadeu Tiago Tomás Ubiratan Valdir Vicente Vinícius Vítor Wagner
    Wellington Wesley William Yuri"""
)
FAMILY_NAMES: Final = _words(
    """Albuquerque Alencar de_Almeida Alves Amorim de_Andrade de_Aquino de_Araújo de_Assunção
    de_Azevedo Bandeira Barbosa Barros Batista Bezerra Borges Brandão de_Brito Cabral Caldas
    da_Câmara Campos Cardoso Carneiro Carvalho Castro Cavalcante Coelho Correia da_Costa
    da_Cunha Damasceno Dantas Dias Diniz Duarte Esteves Fagundes Farias Félix Fernandes
    Ferreira Figueiredo da_Fonseca Freire de_Freitas Galvão Garcia Gomes Gonçalves Guedes
    Guimarães de_Holanda Leal Leite de_Lima Linhares Lins Lopes de_Lucena de_Macedo Machado
    Maia Marinho Marques Martins Matos de_Medeiros de_Melo Mendes Menezes de_Miranda
    Monteiro de_Morais Moreira Moura do_Nascimento Neves da_Nóbrega Nogueira Nunes
    de_Oliveira Pacheco de_Paiva Peixoto Pereira Pessoa Pinheiro Pinto Pires Pontes Porto
    de_Queiroz Ramalho Ramos do_Rêgo dos_Reis Ribeiro da_Rocha Rodrigues Sales Sampaio
    Santana Santiago dos_Santos Saraiva da_Silva Silveira Siqueira Soares de_Souza Tavares
    Teixeira Torres da_Trindade Valença Vasconcelos Viana Vieira Vilela Xavier"""
)
NEIGHBOURHOODS: Final = (
    "Alto da Bela Vista", "Areia Branca", "Bom Pastor", "Cajueiro", "Capim Dourado", "Centro",
    "Cidade Alta", "Cidade Nova", "Coqueiral", "Dix-Sept", "Dunas do Sul", "Encanto Verde",
    "Felipe Camarão", "Guarapes", "Igapó", "Jardim Planalto", "Lagoa Azul", "Lagoa Seca",
    "Mãe Luíza", "Morro Branco", "Nossa Senhora da Apresentação", "Nova Esperança", "Pajuçara",
    "Planície das Mangabeiras", "Ponta Negra", "Potengi", "Praia do Meio", "Quintas", "Redinha",
    "Ribeira", "Rocas", "Salinas", "Santo Antônio", "São José do Campestre", "Sítio Novo",
    "Vila dos Pescadores",
)  # fmt: skip
STREETS: Final = _words(
    """Aroeira Beija-Flor Cacimba Caicó Cajueiros Canindé Carnaúba Catavento Ceará-Mirim Currais
    Esperança Farol Girassol Gravatá Ingá Ipê Jaçanã Jangadeiros Jatobá Juazeiro Jurema
    Lavadeiras Macaíba Mandacaru Mangueira Maracanã Maré Oiticica Palmeiras Pau-Brasil
    Pitangueira Rendeiras Sabiá Salgueiro Seridó Tamarindo Trapiche Umbuzeiro Vaquejada
    Xique-Xique"""
)
OCCUPATIONS: Final = (
    "diarista", "pescador", "ambulante", "agricultora", "aposentado", "desempregada",
    "auxiliar de serviços gerais", "catador de recicláveis", "manicure", "pedreiro", "estudante",
    "cuidadora de idosos", "vigilante", "costureira", "motorista de aplicativo", "cozinheira",
    "marisqueira", "servente", "artesã", "pensionista",
)  # fmt: skip
KINSHIP: Final = (
    "filha", "filho", "cônjuge", "companheira", "companheiro", "mãe", "pai", "neta", "neto",
    "sobrinho", "enteada", "irmã", "avó",
)  # fmt: skip
UNIT_KINDS: Final = (
    ("cras", "CRAS"),
    ("creas", "CREAS"),
    ("abrigo", "Abrigo Municipal"),
    ("posto", "Posto de Atendimento"),
    ("cras", "CRAS Volante"),
)
BENEFITS: Final = (
    ("auxilio_natalidade", "Auxílio-natalidade", 500, 1),
    ("auxilio_funeral", "Auxílio-funeral", 1320, 1),
    ("aluguel_social", "Aluguel social", 600, 12),
    ("cesta_basica", "Cesta básica emergencial", 180, 6),
    ("passagem", "Passagem terrestre", 240, 1),
    ("calamidade", "Auxílio em situação de calamidade", 900, 3),
    ("documentacao", "Segunda via de documentação civil", 95, 1),
    ("mudanca", "Transporte de mudança", 350, 1),
)
TAGS: Final = (
    "urgente", "visita", "idoso", "gestante", "calamidade", "judicial", "reanálise", "criança",
    "deficiência", "mutirão", "retorno", "violação de direitos",
)  # fmt: skip

#: Sentences of a case. ``{}`` is filled with a value of the kind that the braces name.
_OPENINGS: Final = _compiled(
    "Em atendimento na unidade em {dia}, {pessoa} relatou que {motivo}",
    "Visita domiciliar realizada em {dia} no bairro {bairro}: {motivo}",
    "A família procurou o plantão social em {dia} porque {motivo}",
    "Encaminhamento recebido por {origem}, protocolo {numero}: {motivo}",
    "{pessoa}, {idade} anos, {ocupacao}, compareceu à unidade e informou que {motivo}",
    "Retorno agendado para {dia}; na ocasião {pessoa} contou que {motivo}",
    "Busca ativa na Rua {rua}, n.º {casa}, identificou que {motivo}",
    "Por telefone, em {dia}, {pessoa} comunicou que {motivo}",
)
_REASONS: Final = _compiled(
    "perdeu o emprego há {meses} meses e não consegue pagar o aluguel de R$ {valor}",
    "a chuva de {dia} alagou a casa e destruiu colchões, fogão e mantimentos",
    "o falecimento do provedor deixou a família sem renda para o sepultamento",
    "o bebê nasceu em {dia} e faltam enxoval, fraldas e leite",
    "a renda caiu para R$ {valor} e não cobre a alimentação das {pessoas} pessoas da casa",
    "a Defesa Civil interditou o imóvel da Rua {rua} por risco de desabamento",
    "precisa viajar para tratamento de saúde e não tem como custear a passagem",
    "deixou o lar com os filhos após episódios de violência e está na casa de {parente}",
    "o benefício de prestação continuada foi suspenso em {dia} sem explicação",
    "os documentos foram perdidos num incêndio e sem eles não há matrícula na escola",
    "está com {meses} contas de energia em atraso e o fornecimento foi cortado",
    "a pensão de R$ {valor} é a única fonte de sustento e há remédios de uso contínuo",
)
_FINDINGS: Final = _compiled(
    "A renda por pessoa apurada é de R$ {valor}, abaixo do limite da lei municipal.",
    "O núcleo familiar tem {pessoas} integrantes, entre eles {criancas} em idade escolar.",
    "Há inscrição no Cadastro Único, atualizada em {dia}, sob o NIS {nis}.",
    "O imóvel é de {comodos} cômodos, em alvenaria, com abastecimento de água irregular.",
    "Apresentou comprovante de residência em nome de {pessoa}, que vive no mesmo endereço.",
    "Não foi localizado outro benefício eventual nos últimos {meses} meses.",
    "O laudo médico emitido em {dia} confirma a necessidade de acompanhamento.",
    "A escola informou frequência de {porcento}% das crianças no bimestre.",
    "Consta medida protetiva em vigor desde {dia}, processo {numero}.",
    "O contrato de locação vence em {dia} e o valor mensal é de R$ {valor}.",
    "Vizinhos confirmaram a situação; a moradia na Rua {rua} está sem condições de uso.",
    "O técnico observou vínculos preservados e rede de apoio restrita a {parente}.",
    "Houve recusa do encaminhamento ao abrigo; a família prefere permanecer no bairro {bairro}.",
    "A documentação está incompleta: falta a certidão e a declaração de {ocupacao}.",
)
_CLOSINGS: Final = _compiled(
    "Parecer favorável à concessão de {parcelas} parcelas de R$ {valor}.",
    "Sugere-se acompanhamento pelo PAIF e nova visita até {dia}.",
    "Encaminhado à coordenação para autorização e previsão orçamentária.",
    "Solicitada a complementação de documentos até {dia}, sob pena de arquivamento.",
    "Indeferido por renda superior ao critério; cabe recurso em {prazo} dias.",
    "Liberado o pagamento na agência {agencia}, com ciência de {pessoa}.",
    "Mantida a prioridade {prioridade} pela presença de criança, gestante ou idoso.",
    "Acordado contato com {origem} para articulação da rede de proteção.",
)
ORIGINS: Final = (
    "Conselho Tutelar", "Defensoria Pública", "hospital municipal", "escola do bairro",
    "Defesa Civil", "Ministério Público", "unidade básica de saúde", "Consultório na Rua",
    "associação de moradores", "CREAS", "Vara da Infância", "maternidade",
)  # fmt: skip
_REMARKS: Final = _compiled(
    "Prefere contato por mensagem depois das {hora} h.",
    "Reside nos fundos da casa de {pessoa}, portão azul.",
    "Cadastro conferido por {pessoa} em {dia}.",
    "Telefone de recado: {telefone}, falar com {pessoa}.",
    "Ponto de referência: mercadinho da Rua {rua}.",
    "Usa cadeira de rodas; o atendimento deve ser no térreo.",
    "Mudou-se do bairro {bairro} em {dia}.",
)


class Inventor:
    """Draws believable values from one stream of random numbers."""

    def __init__(self, seed: int) -> None:
        """Begin the stream of ``seed``."""
        self.random = random.Random(seed)  # noqa: S311 - invented data, not secrets
        self._draw = self.random.random
        #: The moment that the dates in texts lie around.
        self._about = TODAY
        draw = self._draw
        self._slots: dict[str, Callable[[], str]] = {
            "agencia": lambda: f"{int(draw() * 9000) + 1000}-{int(draw() * 10)}",
            "bairro": lambda: self.pick(NEIGHBOURHOODS),
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
            "ocupacao": lambda: self.pick(OCCUPATIONS),
            "origem": lambda: self.pick(ORIGINS),
            "parcelas": lambda: str(int(draw() * 6) + 1),
            "parente": lambda: self.pick(KINSHIP),
            "pessoa": self.person,
            "pessoas": lambda: str(int(draw() * 7) + 2),
            "porcento": lambda: str(int(draw() * 60) + 40),
            "prazo": lambda: str(int(draw() * 25) + 5),
            "prioridade": lambda: str(int(draw() * 5) + 1),
            "rua": lambda: self.pick(STREETS),
            "telefone": self.telephone,
            "valor": lambda: self.money(80, 2400).replace(".", ","),
        }

    def pick(self, choices: tuple[str, ...]) -> str:
        """Return one of ``choices``."""
        return choices[int(self._draw() * len(choices))]

    def chance(self, share: float) -> bool:
        """Return True in ``share`` of the calls."""
        return self._draw() < share

    def number(self, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``, both included."""
        return low + int(self._draw() * (high - low + 1))

    def digits(self, count: int) -> str:
        """Return decimal digits."""
        return f"{int(self._draw() * 10**count):0{count}d}"

    def money(self, low: int, high: int) -> str:
        """Return an amount with two decimals."""
        return f"{low + self._draw() * (high - low):.2f}"

    def uuid(self) -> str:
        """Return a version 4 UUID."""
        return str(UUID(int=self.random.getrandbits(128), version=4))

    def digest(self) -> str:
        """Return 64 hex digits, like a SHA-256."""
        return f"{self.random.getrandbits(256):064x}"

    def moment(self) -> datetime:
        """Return a moment since the platform's first day, more of the recent ones."""
        return _FIRST_DAY + timedelta(seconds=int(_SPAN * self._draw() ** 0.7))

    def birthday(self) -> date:
        """Return the day an adult was born."""
        return date(1938 + int(self._draw() * 70), 1, 1) + timedelta(days=int(self._draw() * 365))

    def telephone(self) -> str:
        """Return a mobile number."""
        return f"(84) 9{self.digits(4)}-{self.digits(4)}"

    def cpf(self) -> str:
        """Return a CPF number with its two check digits."""
        return with_check_digits(self.digits(9))

    def person(self) -> str:
        """Return a full name."""
        return self.woman() if self.chance(0.6) else self.man()

    def woman(self) -> str:
        """Return a woman's name."""
        return self._named(WOMEN)

    def man(self) -> str:
        """Return a man's name."""
        return self._named(MEN)

    def _named(self, first_names: tuple[str, ...]) -> str:
        first = self.pick(first_names)
        if self.chance(0.3):
            first = f"{first} {self.pick(first_names)}"
        return f"{first} {self.pick(FAMILY_NAMES)} {self.pick(FAMILY_NAMES)}"

    def address(self) -> dict[str, Any]:
        """Return an address."""
        return {
            "logradouro": f"{self.pick(('Rua', 'Rua', 'Travessa', 'Avenida'))} "
            f"{self.pick(STREETS)}",
            "numero": self.number(1, 2400),
            "bairro": self.pick(NEIGHBOURHOODS),
            "cep": f"59{self.digits(3)}-{self.digits(3)}",
        }

    def family(self) -> list[dict[str, Any]]:
        """Return up to four members of a household."""
        return [
            {
                "nome": self.person(),
                "parentesco": self.pick(KINSHIP),
                "nascimento": self.birthday().isoformat(),
                "ocupacao": self.pick(OCCUPATIONS),
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
    """Return a CPF's first nine digits with its two check digits."""
    digits = [int(character) for character in nine]
    for _ in range(2):
        weights = range(len(digits) + 1, 1, -1)
        rest = sum(digit * weight for digit, weight in zip(digits, weights, strict=True)) % 11
        digits.append(0 if rest < 2 else 11 - rest)  # noqa: PLR2004 - the rule of the CPF
    return "".join(map(str, digits))
