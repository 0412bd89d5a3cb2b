-- The model of the demonstration database: what is faster to add after the rows.

ALTER TABLE unidade ADD FOREIGN KEY (superior_id) REFERENCES unidade;
ALTER TABLE usuario ADD FOREIGN KEY (unidade_id) REFERENCES unidade;
ALTER TABLE cidadao
    ADD CONSTRAINT cidadao_cpf_unico UNIQUE (cpf),
    ADD FOREIGN KEY (unidade_id) REFERENCES unidade,
    ADD FOREIGN KEY (representante_id) REFERENCES cidadao ON DELETE SET NULL,
    ADD CONSTRAINT representante_outro CHECK (representante_id <> id);
ALTER TABLE solicitacao
    ADD CONSTRAINT solicitacao_protocolo_unico UNIQUE (protocolo),
    ADD FOREIGN KEY (cidadao_id) REFERENCES cidadao,
    ADD FOREIGN KEY (tipo_beneficio_id) REFERENCES tipo_beneficio,
    ADD FOREIGN KEY (unidade_id) REFERENCES unidade,
    ADD FOREIGN KEY (tecnico_id) REFERENCES usuario,
    ADD FOREIGN KEY (solicitacao_original_id) REFERENCES solicitacao DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE historico_solicitacao
    ADD FOREIGN KEY (solicitacao_id) REFERENCES solicitacao ON DELETE CASCADE,
    ADD FOREIGN KEY (usuario_id) REFERENCES usuario;
ALTER TABLE documento
    ADD FOREIGN KEY (solicitacao_id) REFERENCES solicitacao,
    ADD FOREIGN KEY (cidadao_id) REFERENCES cidadao,
    ADD FOREIGN KEY (enviado_por) REFERENCES usuario;
ALTER TABLE pagamento
    ADD FOREIGN KEY (solicitacao_id) REFERENCES solicitacao,
    ADD FOREIGN KEY (autorizado_por) REFERENCES usuario;

CREATE INDEX cidadao_unidade ON cidadao (unidade_id);
CREATE INDEX cidadao_bairro ON cidadao ((endereco ->> 'bairro'));
CREATE INDEX solicitacao_cidadao ON solicitacao (cidadao_id, aberta_em DESC);
CREATE INDEX solicitacao_abertas ON solicitacao (unidade_id, prioridade)
    WHERE situacao IN ('aberta', 'em análise', 'pendente');
CREATE INDEX solicitacao_texto ON solicitacao USING gin (to_tsvector('pg_catalog.portuguese', relato))
    WHERE situacao IN ('aberta', 'em análise', 'pendente');
CREATE INDEX solicitacao_etiquetas ON solicitacao USING gin (etiquetas);
CREATE INDEX historico_da_solicitacao ON historico_solicitacao (solicitacao_id);
CREATE INDEX documento_da_solicitacao ON documento (solicitacao_id) INCLUDE (tipo);
CREATE INDEX documento_removido ON documento (removed_at) WHERE removed_at IS NOT NULL;
CREATE INDEX pagamento_da_solicitacao ON pagamento (solicitacao_id);
CREATE INDEX evento_quando ON auditoria.evento USING brin (em);
CREATE STATISTICS solicitacao_situacao_tipo (dependencies)
    ON situacao, tipo_beneficio_id FROM solicitacao;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_trgm') THEN
        EXECUTE 'CREATE INDEX cidadao_nome_parecido ON cidadao USING gin (nome_busca '
            || (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
                WHERE e.extname = 'pg_trgm')
            || '.gin_trgm_ops)';
    END IF;
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'btree_gin') THEN
        CREATE INDEX usuario_unidade_papeis ON usuario USING gin (unidade_id, papeis);
    END IF;
END $$;

CREATE FUNCTION marcar_atualizacao() RETURNS trigger
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    NEW.atualizado_em := now();
    RETURN NEW;
END $$;
CREATE FUNCTION numerar_protocolo() RETURNS trigger
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    NEW.protocolo := to_char(NEW.aberta_em, 'YYYY') || '.'
        || lpad(nextval('protocolo_numero')::text, 7, '0');
    RETURN NEW;
END $$;
CREATE FUNCTION auditoria.registrar() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = auditoria, pg_temp AS $$
BEGIN
    INSERT INTO auditoria.evento (tabela, operacao, registro, antes, depois, usuario)
    VALUES (
        TG_TABLE_NAME, TG_OP, CASE TG_OP WHEN 'DELETE' THEN OLD.id::text ELSE NEW.id::text END,
        CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END,
        CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END, session_user
    );
    RETURN NULL;
END $$;
CREATE FUNCTION idade(nascimento date, em date) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN extract(year FROM age(em, nascimento))::integer;
COMMENT ON FUNCTION idade(date, date) IS 'Anos completos na data dada';

CREATE TRIGGER cidadao_atualizado BEFORE UPDATE ON cidadao
    FOR EACH ROW EXECUTE FUNCTION marcar_atualizacao();
CREATE TRIGGER solicitacao_protocolo BEFORE INSERT ON solicitacao
    FOR EACH ROW WHEN (NEW.protocolo IS NULL) EXECUTE FUNCTION numerar_protocolo();
CREATE TRIGGER unidade_auditada AFTER INSERT OR UPDATE OR DELETE ON unidade
    FOR EACH ROW EXECUTE FUNCTION auditoria.registrar();
CREATE TRIGGER usuario_auditado AFTER INSERT OR UPDATE OR DELETE ON usuario
    FOR EACH ROW EXECUTE FUNCTION auditoria.registrar();

CREATE VIEW solicitacao_aberta WITH (security_invoker = true) AS
    SELECT s.id, s.protocolo, c.nome, b.nome AS beneficio, u.nome AS unidade, s.prioridade,
        s.situacao, s.aberta_em
    FROM solicitacao s
    JOIN cidadao c ON c.id = s.cidadao_id
    JOIN tipo_beneficio b ON b.id = s.tipo_beneficio_id
    JOIN unidade u ON u.id = s.unidade_id
    WHERE s.situacao IN ('aberta', 'em análise', 'pendente');
CREATE VIEW hierarquia_unidade AS
    WITH RECURSIVE nivel AS (
        SELECT id, nome, 0 AS profundidade, nome AS caminho FROM unidade WHERE superior_id IS NULL
        UNION ALL
        SELECT u.id, u.nome, n.profundidade + 1, n.caminho || ' › ' || u.nome
        FROM unidade u JOIN nivel n ON u.superior_id = n.id
    )
    SELECT id, nome, profundidade, caminho FROM nivel;
CREATE MATERIALIZED VIEW resumo_mensal AS
    SELECT date_trunc('month', p.competencia)::date AS mes, b.codigo AS beneficio, p.situacao,
        count(*) AS parcelas, sum(p.valor) AS total
    FROM pagamento p
    JOIN solicitacao s ON s.id = p.solicitacao_id
    JOIN tipo_beneficio b ON b.id = s.tipo_beneficio_id
    GROUP BY 1, 2, 3;
CREATE UNIQUE INDEX resumo_mensal_chave ON resumo_mensal (mes, beneficio, situacao);
COMMENT ON MATERIALIZED VIEW resumo_mensal IS 'Pagamentos por mês, para o painel';

ALTER TABLE cidadao ENABLE ROW LEVEL SECURITY;
ALTER TABLE solicitacao ENABLE ROW LEVEL SECURITY;
ALTER TABLE documento ENABLE ROW LEVEL SECURITY;
ALTER TABLE cidadao FORCE ROW LEVEL SECURITY;
CREATE POLICY da_unidade ON cidadao FOR ALL TO pgben_tecnico
    USING (unidade_id = nullif(current_setting('pgben.unidade', true), '')::uuid);
CREATE POLICY todas ON cidadao FOR ALL TO pgben_coordenador USING (true) WITH CHECK (true);
CREATE POLICY leitura ON cidadao FOR SELECT TO pgben_auditor USING (true);
CREATE POLICY da_unidade ON solicitacao FOR ALL TO pgben_tecnico
    USING (unidade_id = nullif(current_setting('pgben.unidade', true), '')::uuid);
CREATE POLICY todas ON solicitacao FOR ALL TO pgben_coordenador USING (true);
CREATE POLICY encerradas_nao_mudam ON solicitacao AS RESTRICTIVE FOR UPDATE TO PUBLIC
    USING (situacao <> 'concluída');
CREATE POLICY da_unidade ON documento FOR SELECT TO pgben_tecnico, pgben_coordenador
    USING (removed_at IS NULL
        AND EXISTS (SELECT FROM solicitacao s WHERE s.id = documento.solicitacao_id));

GRANT USAGE ON SCHEMA auditoria TO pgben_auditor;
GRANT SELECT ON ALL TABLES IN SCHEMA auditoria TO pgben_auditor;
GRANT SELECT, INSERT, UPDATE ON cidadao, solicitacao, documento TO pgben_tecnico;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO pgben_coordenador;
GRANT SELECT (id, nome, codigo, tipo) ON unidade TO pgben_tecnico;
GRANT SELECT ON resumo_mensal, hierarquia_unidade TO pgben_auditor;
GRANT USAGE ON SEQUENCE protocolo_numero TO pgben_tecnico;
REVOKE EXECUTE ON FUNCTION auditoria.registrar() FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA auditoria GRANT SELECT ON TABLES TO pgben_auditor;
