--
-- PostgreSQL database dump
--

\restrict cgluB0aKLkFVvctJ6vfCqReDPqBLzJLPvgTPZkz248OBo5usXoSuWtVzXMOK072

-- Dumped from database version 18.6
-- Dumped by pg_dump version 18.6

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: alembic_version; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);


--
-- Name: decisions; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.decisions (
    run_id character varying(16) NOT NULL,
    step integer NOT NULL,
    sender character varying(32) NOT NULL,
    receiver character varying(32) NOT NULL,
    before double precision NOT NULL,
    after double precision NOT NULL,
    score double precision NOT NULL,
    outcome character varying(8) NOT NULL,
    float64 boolean NOT NULL,
    CONSTRAINT ck_decisions_outcome CHECK (((outcome)::text = ANY ((ARRAY['kept'::character varying, 'removed'::character varying, 'dead'::character varying])::text[])))
);


--
-- Name: prompts; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.prompts (
    hash character varying(64) NOT NULL,
    jsonl text NOT NULL
);


--
-- Name: runs; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.runs (
    id character varying(16) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    started_at timestamp with time zone,
    updated_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    status character varying(16) NOT NULL,
    spec json NOT NULL,
    spec_hash character varying(64) NOT NULL,
    model text NOT NULL,
    task text NOT NULL,
    metric character varying(32) NOT NULL,
    ablation character varying(32) NOT NULL,
    tau double precision NOT NULL,
    prompts integer NOT NULL,
    seed bigint NOT NULL,
    engine character varying(32) NOT NULL,
    graph json NOT NULL,
    edges integer NOT NULL,
    kept integer,
    evaluated integer,
    dead integer,
    damage double precision,
    damage_all_ablated double precision,
    seconds double precision NOT NULL,
    circuit_hash character varying(64),
    versions json NOT NULL,
    error text,
    evidence json NOT NULL,
    prompts_hash character varying(64) NOT NULL,
    CONSTRAINT ck_runs_status CHECK (((status)::text = ANY ((ARRAY['running'::character varying, 'done'::character varying, 'failed'::character varying, 'interrupted'::character varying])::text[])))
);


--
-- Data for Name: alembic_version; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.alembic_version VALUES ('0001');


--
-- Data for Name: decisions; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.decisions VALUES ('a44499679824820f', 0, 'm1', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('a44499679824820f', 1, 'a1.h0', 'logits', 0, 0.2566550931444874, 0.2566550931444874, 'kept', false);
INSERT INTO public.decisions VALUES ('a44499679824820f', 2, 'm0', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('a44499679824820f', 3, 'a0.h0', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('a44499679824820f', 4, 'embed', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('a44499679824820f', 5, 'a1.h0', 'm1.in', 0, 0, 0, 'dead', false);
INSERT INTO public.decisions VALUES ('a44499679824820f', 6, 'm0', 'm1.in', 0, 0, 0, 'dead', false);
INSERT INTO public.decisions VALUES ('a44499679824820f', 7, 'a0.h0', 'm1.in', 0, 0, 0, 'dead', false);
INSERT INTO public.decisions VALUES ('a44499679824820f', 8, 'embed', 'm1.in', 0, 0, 0, 'dead', false);
INSERT INTO public.decisions VALUES ('beeb374eb87ed288', 0, 'm1', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('beeb374eb87ed288', 1, 'a1.h0', 'logits', 0, 0.2566550931444874, 0.2566550931444874, 'kept', false);
INSERT INTO public.decisions VALUES ('beeb374eb87ed288', 2, 'm0', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('beeb374eb87ed288', 3, 'a0.h0', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('beeb374eb87ed288', 4, 'embed', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 0, 'm1', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 1, 'a1.h0', 'logits', 0, 0.2566550931444874, 0.2566550931444874, 'kept', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 2, 'm0', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 3, 'a0.h0', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 4, 'embed', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 5, 'a1.h0', 'm1.in', 0, 0, 0, 'dead', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 6, 'm0', 'm1.in', 0, 0, 0, 'dead', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 7, 'a0.h0', 'm1.in', 0, 0, 0, 'dead', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 8, 'embed', 'm1.in', 0, 0, 0, 'dead', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 9, 'm0', 'a1.h0.v', 0, 0.2566550931444874, 0.2566550931444874, 'kept', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 10, 'a0.h0', 'a1.h0.v', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 11, 'embed', 'a1.h0.v', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 12, 'm0', 'a1.h0.k', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 13, 'a0.h0', 'a1.h0.k', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 14, 'embed', 'a1.h0.k', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 15, 'm0', 'a1.h0.q', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 16, 'a0.h0', 'a1.h0.q', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 17, 'embed', 'a1.h0.q', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 18, 'a0.h0', 'm0.in', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 19, 'embed', 'm0.in', 0, 0.2566550931444874, 0.2566550931444874, 'kept', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 20, 'embed', 'a0.h0.v', 0, 0, 0, 'dead', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 21, 'embed', 'a0.h0.k', 0, 0, 0, 'dead', false);
INSERT INTO public.decisions VALUES ('a1ea7c598a8cfc9f', 22, 'embed', 'a0.h0.q', 0, 0, 0, 'dead', false);


--
-- Data for Name: prompts; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.prompts VALUES ('a5b184afc0cb16d0dab893842318f40b79ee66d3ec8cc859347838e964430217', '{"answer_positions": [1, 2, 3, 4], "clean": "w y x z", "clean_tokens": [0, 2, 4, 3, 5], "correct_tokens": [], "corrupted": "y w w z", "corrupted_tokens": [0, 4, 2, 2, 5], "incorrect_tokens": [], "roles": {}}
{"answer_positions": [1, 2, 3, 4], "clean": "z y y x", "clean_tokens": [0, 5, 4, 4, 3], "correct_tokens": [], "corrupted": "y w w y", "corrupted_tokens": [0, 4, 2, 2, 4], "incorrect_tokens": [], "roles": {}}
{"answer_positions": [1, 2, 3, 4], "clean": "y x y x", "clean_tokens": [0, 4, 3, 4, 3], "correct_tokens": [], "corrupted": "w y w z", "corrupted_tokens": [0, 2, 4, 2, 5], "incorrect_tokens": [], "roles": {}}
{"answer_positions": [1, 2, 3, 4], "clean": "w z w x", "clean_tokens": [0, 2, 5, 2, 3], "correct_tokens": [], "corrupted": "x x x y", "corrupted_tokens": [0, 3, 3, 3, 4], "incorrect_tokens": [], "roles": {}}
{"answer_positions": [1, 2, 3, 4], "clean": "w x y z", "clean_tokens": [0, 2, 3, 4, 5], "correct_tokens": [], "corrupted": "x w w y", "corrupted_tokens": [0, 3, 2, 2, 4], "incorrect_tokens": [], "roles": {}}
{"answer_positions": [1, 2, 3, 4], "clean": "y x w x", "clean_tokens": [0, 4, 3, 2, 3], "correct_tokens": [], "corrupted": "x w w z", "corrupted_tokens": [0, 3, 2, 2, 5], "incorrect_tokens": [], "roles": {}}
');


--
-- Data for Name: runs; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.runs VALUES ('a44499679824820f', '2026-11-23 03:48:41.892524+00', '2026-11-23 03:48:41.951464+00', '2026-11-23 03:48:42.954435+00', NULL, 'running', '{"ablation": "resample", "bos": false, "dtype": "float32", "metric": "l2", "model": "tracr-xproportion", "prompts": 6, "prompts_file": null, "prompts_hash": "04d743bc388ee110d9b2cd01c61152f2ef235faee1c5e950d9deac6382d6787c", "seed": 0, "task": "xproportion", "task_options": {}, "tau": 0.05, "version": 1, "weights_hash": "023bd15680d643777e4902028e968cb4f0377a0aa6d2f661d05406c638999127"}', '8e72ece9642e870fc9a2caa50268bcb90c2f4c1b2d3b8b6a4bc25250b21c4a7e', 'tracr-xproportion', 'xproportion', 'l2', 'resample', 0.05, 6, 0, 'exact', '{"mlp": true, "n_heads": 1, "n_kv_heads": 1, "n_layers": 2, "parallel": false}', 23, NULL, NULL, NULL, NULL, NULL, 0, NULL, '{"discover": "0.1.0", "numpy": "2.4.6", "python": "3.11.7", "torch": "2.13.0+cpu", "transformer_lens": "4.3.0", "transformers": "5.23.0"}', NULL, '{}', 'a5b184afc0cb16d0dab893842318f40b79ee66d3ec8cc859347838e964430217');
INSERT INTO public.runs VALUES ('a1ea7c598a8cfc9f', '2026-11-23 03:48:47.898331+00', '2026-11-23 03:48:47.986324+00', '2026-11-23 03:48:48.193874+00', '2026-11-23 03:48:48.193874+00', 'done', '{"ablation": "resample", "bos": false, "dtype": "float32", "metric": "l2", "model": "tracr-xproportion", "prompts": 6, "prompts_file": null, "prompts_hash": "04d743bc388ee110d9b2cd01c61152f2ef235faee1c5e950d9deac6382d6787c", "seed": 0, "task": "xproportion", "task_options": {}, "tau": 0.01, "version": 1, "weights_hash": "023bd15680d643777e4902028e968cb4f0377a0aa6d2f661d05406c638999127"}', '73b03bce8e1a9384227104877a91086a208b2675abd6911643da6510ad5aafaa', 'tracr-xproportion', 'xproportion', 'l2', 'resample', 0.01, 6, 0, 'exact', '{"mlp": true, "n_heads": 1, "n_kv_heads": 1, "n_layers": 2, "parallel": false}', 23, 3, 16, 7, 0, 0.2566550931444875, 0.26337138999952003, 'acb1e38f93c71bea4620ad1ac256beab8330d303e3b30cc314cc64e83a5855d6', '{"discover": "0.1.0", "numpy": "2.4.6", "python": "3.11.7", "torch": "2.13.0+cpu", "transformer_lens": "4.3.0", "transformers": "5.23.0"}', NULL, '{"accepted": 16, "blocks": 7, "evaluations": 22, "near_tau": 0, "node_computations": 22, "plain_node_computations": 80, "seconds": {"commit": 0.002, "evaluate": 0.011, "final_check": 0.047, "search": 0.015, "self_check": 0.08}, "self_check": {"all_ablated": 0.0, "all_kept": 0.0, "residual": 0.0}, "sessions": 1, "wasted": 5}', 'a5b184afc0cb16d0dab893842318f40b79ee66d3ec8cc859347838e964430217');
INSERT INTO public.runs VALUES ('beeb374eb87ed288', '2026-11-23 03:48:46.785889+00', '2026-11-23 03:48:46.953336+00', '2026-11-23 03:48:47.286482+00', '2026-11-23 03:48:47.286482+00', 'interrupted', '{"ablation": "resample", "bos": false, "dtype": "float32", "metric": "l2", "model": "tracr-xproportion", "prompts": 6, "prompts_file": null, "prompts_hash": "04d743bc388ee110d9b2cd01c61152f2ef235faee1c5e950d9deac6382d6787c", "seed": 0, "task": "xproportion", "task_options": {}, "tau": 0.02, "version": 1, "weights_hash": "023bd15680d643777e4902028e968cb4f0377a0aa6d2f661d05406c638999127"}', '08cbe17e9fd732654938412194e1c8ac1c621c7e756f1a5363b5f837269d60e2', 'tracr-xproportion', 'xproportion', 'l2', 'resample', 0.02, 6, 0, 'exact', '{"mlp": true, "n_heads": 1, "n_kv_heads": 1, "n_layers": 2, "parallel": false}', 23, NULL, NULL, NULL, NULL, NULL, 0.4201134879986057, NULL, '{"discover": "0.1.0", "numpy": "2.4.6", "python": "3.11.7", "torch": "2.13.0+cpu", "transformer_lens": "4.3.0", "transformers": "5.23.0"}', NULL, '{"accepted": 5, "blocks": 2, "evaluations": 9, "near_tau": 0, "node_computations": 0, "plain_node_computations": 25, "seconds": {"evaluate": 0.001, "search": 0.002, "self_check": 0.168}, "self_check": {"all_ablated": 0.0, "all_kept": 0.0, "residual": 0.0}, "sessions": 1, "wasted": 3}', 'a5b184afc0cb16d0dab893842318f40b79ee66d3ec8cc859347838e964430217');


--
-- Name: alembic_version alembic_version_pkc; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);


--
-- Name: decisions pk_decisions; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.decisions
    ADD CONSTRAINT pk_decisions PRIMARY KEY (run_id, step);


--
-- Name: prompts pk_prompts; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.prompts
    ADD CONSTRAINT pk_prompts PRIMARY KEY (hash);


--
-- Name: runs pk_runs; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.runs
    ADD CONSTRAINT pk_runs PRIMARY KEY (id);


--
-- Name: ix_runs_created_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_runs_created_at ON public.runs USING btree (created_at);


--
-- Name: decisions fk_decisions_run_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.decisions
    ADD CONSTRAINT fk_decisions_run_id FOREIGN KEY (run_id) REFERENCES public.runs(id) ON DELETE CASCADE;


--
-- Name: runs fk_runs_prompts_hash; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.runs
    ADD CONSTRAINT fk_runs_prompts_hash FOREIGN KEY (prompts_hash) REFERENCES public.prompts(hash);


--
-- PostgreSQL database dump complete
--

\unrestrict cgluB0aKLkFVvctJ6vfCqReDPqBLzJLPvgTPZkz248OBo5usXoSuWtVzXMOK072

