"""Portuguese words and sentences of the demonstration data: people, places, cases.

Only lists and templates; everybody and everything in them is invented.
"""

from __future__ import annotations

from typing import Final


def _words(text: str) -> tuple[str, ...]:
    """Split a text into words; ``_`` stands for a space inside one."""
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
OPENINGS: Final = (
    "Em atendimento na unidade em {dia}, {pessoa} relatou que {motivo}",
    "Visita domiciliar realizada em {dia} no bairro {bairro}: {motivo}",
    "A família procurou o plantão social em {dia} porque {motivo}",
    "Encaminhamento recebido por {origem}, protocolo {numero}: {motivo}",
    "{pessoa}, {idade} anos, {ocupacao}, compareceu à unidade e informou que {motivo}",
    "Retorno agendado para {dia}; na ocasião {pessoa} contou que {motivo}",
    "Busca ativa na Rua {rua}, n.º {casa}, identificou que {motivo}",
    "Por telefone, em {dia}, {pessoa} comunicou que {motivo}",
)
REASONS: Final = (
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
FINDINGS: Final = (
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
CLOSINGS: Final = (
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
REMARKS: Final = (
    "Prefere contato por mensagem depois das {hora} h.",
    "Reside nos fundos da casa de {pessoa}, portão azul.",
    "Cadastro conferido por {pessoa} em {dia}.",
    "Telefone de recado: {telefone}, falar com {pessoa}.",
    "Ponto de referência: mercadinho da Rua {rua}.",
    "Usa cadeira de rodas; o atendimento deve ser no térreo.",
    "Mudou-se do bairro {bairro} em {dia}.",
)
