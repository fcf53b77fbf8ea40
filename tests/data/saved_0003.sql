--
-- PostgreSQL database dump
--

\restrict KBiqZXTRUUWftGdsHFZAZFZ9ncwxCOxwYZ3hDWIhO8Rz3yWwfeP0sheVmCb2mPR

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
-- Name: evaluations; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.evaluations (
    id character varying(16) NOT NULL,
    run_id character varying(16),
    created_at timestamp with time zone NOT NULL,
    circuit_hash character varying(64) NOT NULL,
    settings json NOT NULL,
    prompts_hash character varying(64) NOT NULL,
    versions json NOT NULL,
    seconds double precision NOT NULL
);


--
-- Name: files; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.files (
    hash character varying(64) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    text text NOT NULL
);


--
-- Name: jobs; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.jobs (
    id character varying(16) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    status character varying(16) NOT NULL,
    cancelling boolean NOT NULL,
    spec json NOT NULL,
    batch_key character varying(64) NOT NULL,
    model text NOT NULL,
    task text NOT NULL,
    metric character varying(32) NOT NULL,
    ablation character varying(32) NOT NULL,
    tau double precision NOT NULL,
    engine character varying(32) NOT NULL,
    options json NOT NULL,
    note text NOT NULL,
    attempt integer NOT NULL,
    worker character varying(64),
    heartbeat_at timestamp with time zone,
    deaths integer NOT NULL,
    decided integer NOT NULL,
    error text,
    CONSTRAINT ck_jobs_status CHECK (((status)::text = ANY ((ARRAY['queued'::character varying, 'running'::character varying, 'done'::character varying, 'failed'::character varying, 'cancelled'::character varying])::text[])))
);


--
-- Name: measurements; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.measurements (
    evaluation_id character varying(16) NOT NULL,
    number integer NOT NULL,
    subject text NOT NULL,
    measure character varying(64) NOT NULL,
    value double precision NOT NULL,
    low double precision,
    high double precision,
    unit character varying(32) NOT NULL,
    extra json NOT NULL
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
    attempt integer DEFAULT 0 NOT NULL,
    kept_so_far integer DEFAULT 0 NOT NULL,
    damage_so_far double precision,
    note text,
    CONSTRAINT ck_runs_status CHECK (((status)::text = ANY ((ARRAY['running'::character varying, 'done'::character varying, 'failed'::character varying, 'interrupted'::character varying])::text[])))
);


--
-- Name: sweep_runs; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.sweep_runs (
    sweep_id character varying(16) NOT NULL,
    tau double precision NOT NULL,
    run_id character varying(16) NOT NULL
);


--
-- Name: sweeps; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.sweeps (
    id character varying(16) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    spec json NOT NULL,
    model text NOT NULL,
    task text NOT NULL,
    note text NOT NULL
);


--
-- Name: workers; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.workers (
    id character varying(64) NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    device character varying(32) NOT NULL,
    started_at timestamp with time zone NOT NULL,
    heartbeat_at timestamp with time zone NOT NULL,
    run_id character varying(16)
);


--
-- Data for Name: alembic_version; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.alembic_version VALUES ('0003');


--
-- Data for Name: decisions; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.decisions VALUES ('0e2531e0141fa900', 0, 'm1', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('0e2531e0141fa900', 1, 'a1.h0', 'logits', 0, 0.2566550931444874, 0.2566550931444874, 'kept', false);
INSERT INTO public.decisions VALUES ('0e2531e0141fa900', 2, 'm0', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('0e2531e0141fa900', 3, 'a0.h0', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('0e2531e0141fa900', 4, 'embed', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('0e2531e0141fa900', 5, 'a1.h0', 'm1.in', 0, 0, 0, 'dead', false);
INSERT INTO public.decisions VALUES ('0e2531e0141fa900', 6, 'm0', 'm1.in', 0, 0, 0, 'dead', false);
INSERT INTO public.decisions VALUES ('0e2531e0141fa900', 7, 'a0.h0', 'm1.in', 0, 0, 0, 'dead', false);
INSERT INTO public.decisions VALUES ('0e2531e0141fa900', 8, 'embed', 'm1.in', 0, 0, 0, 'dead', false);
INSERT INTO public.decisions VALUES ('dd6f21cfaf2aa98f', 0, 'm1', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('dd6f21cfaf2aa98f', 1, 'a1.h0', 'logits', 0, 0.2566550931444874, 0.2566550931444874, 'kept', false);
INSERT INTO public.decisions VALUES ('dd6f21cfaf2aa98f', 2, 'm0', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('dd6f21cfaf2aa98f', 3, 'a0.h0', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('dd6f21cfaf2aa98f', 4, 'embed', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 0, 'm1', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 1, 'a1.h0', 'logits', 0, 0.2566550931444874, 0.2566550931444874, 'kept', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 2, 'm0', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 3, 'a0.h0', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 4, 'embed', 'logits', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 5, 'a1.h0', 'm1.in', 0, 0, 0, 'dead', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 6, 'm0', 'm1.in', 0, 0, 0, 'dead', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 7, 'a0.h0', 'm1.in', 0, 0, 0, 'dead', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 8, 'embed', 'm1.in', 0, 0, 0, 'dead', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 9, 'm0', 'a1.h0.v', 0, 0.2566550931444874, 0.2566550931444874, 'kept', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 10, 'a0.h0', 'a1.h0.v', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 11, 'embed', 'a1.h0.v', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 12, 'm0', 'a1.h0.k', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 13, 'a0.h0', 'a1.h0.k', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 14, 'embed', 'a1.h0.k', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 15, 'm0', 'a1.h0.q', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 16, 'a0.h0', 'a1.h0.q', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 17, 'embed', 'a1.h0.q', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 18, 'a0.h0', 'm0.in', 0, 0, 0, 'removed', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 19, 'embed', 'm0.in', 0, 0.2566550931444874, 0.2566550931444874, 'kept', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 20, 'embed', 'a0.h0.v', 0, 0, 0, 'dead', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 21, 'embed', 'a0.h0.k', 0, 0, 0, 'dead', false);
INSERT INTO public.decisions VALUES ('75ada454094514ac', 22, 'embed', 'a0.h0.q', 0, 0, 0, 'dead', false);


--
-- Data for Name: evaluations; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.evaluations VALUES ('247daecc02c78197', '75ada454094514ac', '2026-11-23 03:52:23.222344+00', 'acb1e38f93c71bea4620ad1ac256beab8330d303e3b30cc314cc64e83a5855d6', '{"metric": "l2"}', 'c00492444403e7d40bd808300b15af0e3208d3295744b4701ce9904a0622bf39', '{}', 0.5);


--
-- Data for Name: files; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.files VALUES ('a5b184afc0cb16d0dab893842318f40b79ee66d3ec8cc859347838e964430217', '2026-11-23 03:52:23.270589+00', '{"answer_positions": [1, 2, 3, 4], "clean": "w y x z", "clean_tokens": [0, 2, 4, 3, 5], "correct_tokens": [], "corrupted": "y w w z", "corrupted_tokens": [0, 4, 2, 2, 5], "incorrect_tokens": [], "roles": {}}
{"answer_positions": [1, 2, 3, 4], "clean": "z y y x", "clean_tokens": [0, 5, 4, 4, 3], "correct_tokens": [], "corrupted": "y w w y", "corrupted_tokens": [0, 4, 2, 2, 4], "incorrect_tokens": [], "roles": {}}
{"answer_positions": [1, 2, 3, 4], "clean": "y x y x", "clean_tokens": [0, 4, 3, 4, 3], "correct_tokens": [], "corrupted": "w y w z", "corrupted_tokens": [0, 2, 4, 2, 5], "incorrect_tokens": [], "roles": {}}
{"answer_positions": [1, 2, 3, 4], "clean": "w z w x", "clean_tokens": [0, 2, 5, 2, 3], "correct_tokens": [], "corrupted": "x x x y", "corrupted_tokens": [0, 3, 3, 3, 4], "incorrect_tokens": [], "roles": {}}
{"answer_positions": [1, 2, 3, 4], "clean": "w x y z", "clean_tokens": [0, 2, 3, 4, 5], "correct_tokens": [], "corrupted": "x w w y", "corrupted_tokens": [0, 3, 2, 2, 4], "incorrect_tokens": [], "roles": {}}
{"answer_positions": [1, 2, 3, 4], "clean": "y x w x", "clean_tokens": [0, 4, 3, 2, 3], "correct_tokens": [], "corrupted": "x w w z", "corrupted_tokens": [0, 3, 2, 2, 5], "incorrect_tokens": [], "roles": {}}
');


--
-- Data for Name: jobs; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.jobs VALUES ('a3e9006f094b2975', '2026-11-23 03:52:23.375663+00', '2026-11-23 03:52:23.411441+00', '2026-11-23 03:52:23.411441+00', 'cancelled', false, '{"ablation": "resample", "bos": false, "dtype": "float32", "metric": "l2", "model": "tracr-xproportion", "prompts": 6, "prompts_file": null, "prompts_hash": "", "seed": 0, "task": "xproportion", "task_options": {}, "tau": 0.02, "version": 1, "weights_hash": ""}', 'ed7e35ad6b03877f03024c393d5638b275764c0a0210fd2801040b8b904b30a9', 'tracr-xproportion', 'xproportion', 'l2', 'resample', 0.02, 'exact', '{}', '', 1, NULL, NULL, 0, 0, NULL);
INSERT INTO public.jobs VALUES ('5d4218f5449da060', '2026-11-23 03:52:23.353201+00', '2026-11-23 03:52:23.534393+00', '2026-11-23 03:52:23.534393+00', 'failed', false, '{"ablation": "resample", "bos": false, "dtype": "float32", "metric": "l2", "model": "tracr-xproportion", "prompts": null, "prompts_file": "sha256:a5b184afc0cb16d0dab893842318f40b79ee66d3ec8cc859347838e964430217/prompts.jsonl", "prompts_hash": "", "seed": 0, "task": null, "task_options": {}, "tau": 0.2, "version": 1, "weights_hash": ""}', '9e9f3946c6550cabc3fa3db565598e59f500dd197dad114e8a90860ddb2b3e40', 'tracr-xproportion', 'sha256:a5b184afc0cb16d0dab893842318f40b79ee66d3ec8cc859347838e964430217/prompts.jsonl', 'l2', 'resample', 0.2, 'exact', '{}', 'from a file', 2, NULL, NULL, 0, 0, 'the model cannot be loaded');
INSERT INTO public.jobs VALUES ('313bfcb3fc6ec985', '2026-11-23 03:52:23.353201+00', '2026-11-23 03:52:23.583654+00', NULL, 'running', false, '{"ablation": "resample", "bos": false, "dtype": "float32", "metric": "l2", "model": "tracr-xproportion", "prompts": null, "prompts_file": "sha256:a5b184afc0cb16d0dab893842318f40b79ee66d3ec8cc859347838e964430217/prompts.jsonl", "prompts_hash": "", "seed": 0, "task": null, "task_options": {}, "tau": 0.1, "version": 1, "weights_hash": ""}', '9e9f3946c6550cabc3fa3db565598e59f500dd197dad114e8a90860ddb2b3e40', 'tracr-xproportion', 'sha256:a5b184afc0cb16d0dab893842318f40b79ee66d3ec8cc859347838e964430217/prompts.jsonl', 'l2', 'resample', 0.1, 'exact', '{}', 'from a file', 1, 'here', '2026-11-23 03:52:23.583654+00', 0, 0, NULL);


--
-- Data for Name: measurements; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.measurements VALUES ('247daecc02c78197', 0, 'circuit', 'l2', 0.125, 0.1, 'Infinity', 'squared logits', '{}');
INSERT INTO public.measurements VALUES ('247daecc02c78197', 1, 'circuit', 'faithfulness', 0.9375, NULL, NULL, '', '{"edges": 3}');


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
INSERT INTO public.prompts VALUES ('c00492444403e7d40bd808300b15af0e3208d3295744b4701ce9904a0622bf39', '{"clean": "unseen"}
');


--
-- Data for Name: runs; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.runs VALUES ('0e2531e0141fa900', '2026-11-23 03:52:15.549096+00', '2026-11-23 03:52:15.635209+00', '2026-11-23 03:52:16.676863+00', NULL, 'running', '{"ablation": "resample", "bos": false, "dtype": "float32", "metric": "l2", "model": "tracr-xproportion", "prompts": 6, "prompts_file": null, "prompts_hash": "04d743bc388ee110d9b2cd01c61152f2ef235faee1c5e950d9deac6382d6787c", "seed": 0, "task": "xproportion", "task_options": {}, "tau": 0.05, "version": 1, "weights_hash": "023bd15680d643777e4902028e968cb4f0377a0aa6d2f661d05406c638999127"}', '8e72ece9642e870fc9a2caa50268bcb90c2f4c1b2d3b8b6a4bc25250b21c4a7e', 'tracr-xproportion', 'xproportion', 'l2', 'resample', 0.05, 6, 0, 'exact', '{"mlp": true, "n_heads": 1, "n_kv_heads": 1, "n_layers": 2, "parallel": false}', 23, NULL, NULL, NULL, NULL, NULL, 0, NULL, '{"discover": "0.1.0", "numpy": "2.4.6", "python": "3.11.7", "torch": "2.13.0+cpu", "transformer_lens": "4.3.0", "transformers": "5.23.0"}', NULL, '{}', 'a5b184afc0cb16d0dab893842318f40b79ee66d3ec8cc859347838e964430217', 1, 1, 0, NULL);
INSERT INTO public.runs VALUES ('dd6f21cfaf2aa98f', '2026-11-23 03:52:21.493116+00', '2026-11-23 03:52:21.546374+00', '2026-11-23 03:52:22.049419+00', '2026-11-23 03:52:22.049419+00', 'interrupted', '{"ablation": "resample", "bos": false, "dtype": "float32", "metric": "l2", "model": "tracr-xproportion", "prompts": 6, "prompts_file": null, "prompts_hash": "04d743bc388ee110d9b2cd01c61152f2ef235faee1c5e950d9deac6382d6787c", "seed": 0, "task": "xproportion", "task_options": {}, "tau": 0.02, "version": 1, "weights_hash": "023bd15680d643777e4902028e968cb4f0377a0aa6d2f661d05406c638999127"}', '08cbe17e9fd732654938412194e1c8ac1c621c7e756f1a5363b5f837269d60e2', 'tracr-xproportion', 'xproportion', 'l2', 'resample', 0.02, 6, 0, 'exact', '{"mlp": true, "n_heads": 1, "n_kv_heads": 1, "n_layers": 2, "parallel": false}', 23, NULL, NULL, NULL, NULL, NULL, 0.5029608619952342, NULL, '{"discover": "0.1.0", "numpy": "2.4.6", "python": "3.11.7", "torch": "2.13.0+cpu", "transformer_lens": "4.3.0", "transformers": "5.23.0"}', NULL, '{"accepted": 5, "blocks": 2, "evaluations": 9, "near_tau": 0, "node_computations": 0, "plain_node_computations": 25, "seconds": {"evaluate": 0.001, "search": 0.002, "self_check": 0.152}, "self_check": {"all_ablated": 0.0, "all_kept": 0.0, "residual": 0.0}, "sessions": 1, "wasted": 3}', 'a5b184afc0cb16d0dab893842318f40b79ee66d3ec8cc859347838e964430217', 1, 1, 0, NULL);
INSERT INTO public.runs VALUES ('75ada454094514ac', '2026-11-23 03:52:22.673537+00', '2026-11-23 03:52:22.698427+00', '2026-11-23 03:52:23.154559+00', '2026-11-23 03:52:23.154559+00', 'done', '{"ablation": "resample", "bos": false, "dtype": "float32", "metric": "l2", "model": "tracr-xproportion", "prompts": 6, "prompts_file": null, "prompts_hash": "04d743bc388ee110d9b2cd01c61152f2ef235faee1c5e950d9deac6382d6787c", "seed": 0, "task": "xproportion", "task_options": {}, "tau": 0.01, "version": 1, "weights_hash": "023bd15680d643777e4902028e968cb4f0377a0aa6d2f661d05406c638999127"}', '73b03bce8e1a9384227104877a91086a208b2675abd6911643da6510ad5aafaa', 'tracr-xproportion', 'xproportion', 'l2', 'resample', 0.01, 6, 0, 'exact', '{"mlp": true, "n_heads": 1, "n_kv_heads": 1, "n_layers": 2, "parallel": false}', 23, 3, 16, 7, 0, 0.2566550931444875, 0.4560552990005817, 'acb1e38f93c71bea4620ad1ac256beab8330d303e3b30cc314cc64e83a5855d6', '{"discover": "0.1.0", "numpy": "2.4.6", "python": "3.11.7", "torch": "2.13.0+cpu", "transformer_lens": "4.3.0", "transformers": "5.23.0"}', NULL, '{"accepted": 16, "blocks": 7, "evaluations": 22, "near_tau": 0, "node_computations": 22, "plain_node_computations": 80, "seconds": {"commit": 0.003, "evaluate": 0.052, "final_check": 0.064, "search": 0.062, "self_check": 0.169}, "self_check": {"all_ablated": 0.0, "all_kept": 0.0, "residual": 0.0}, "sessions": 1, "wasted": 5}', 'a5b184afc0cb16d0dab893842318f40b79ee66d3ec8cc859347838e964430217', 1, 3, 0, 'the calm one');


--
-- Data for Name: sweep_runs; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.sweep_runs VALUES ('8462ce13c27342df', 0.1, '313bfcb3fc6ec985');
INSERT INTO public.sweep_runs VALUES ('8462ce13c27342df', 0.2, '5d4218f5449da060');


--
-- Data for Name: sweeps; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.sweeps VALUES ('8462ce13c27342df', '2026-11-23 03:52:23.353201+00', '{"ablation": "resample", "bos": false, "dtype": "float32", "metric": "l2", "model": "tracr-xproportion", "prompts": null, "prompts_file": "sha256:a5b184afc0cb16d0dab893842318f40b79ee66d3ec8cc859347838e964430217/prompts.jsonl", "prompts_hash": "", "seed": 0, "task": null, "task_options": {}, "tau": 0.1, "version": 1, "weights_hash": ""}', 'tracr-xproportion', 'sha256:a5b184afc0cb16d0dab893842318f40b79ee66d3ec8cc859347838e964430217/prompts.jsonl', 'from a file');


--
-- Data for Name: workers; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.workers VALUES ('here', 'host', 1, 'cpu', '2026-11-23 03:52:23.559303+00', '2026-11-23 03:52:23.559303+00', '313bfcb3fc6ec985');


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
-- Name: evaluations pk_evaluations; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.evaluations
    ADD CONSTRAINT pk_evaluations PRIMARY KEY (id);


--
-- Name: files pk_files; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.files
    ADD CONSTRAINT pk_files PRIMARY KEY (hash);


--
-- Name: jobs pk_jobs; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT pk_jobs PRIMARY KEY (id);


--
-- Name: measurements pk_measurements; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.measurements
    ADD CONSTRAINT pk_measurements PRIMARY KEY (evaluation_id, number);


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
-- Name: sweep_runs pk_sweep_runs; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.sweep_runs
    ADD CONSTRAINT pk_sweep_runs PRIMARY KEY (sweep_id, tau);


--
-- Name: sweeps pk_sweeps; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.sweeps
    ADD CONSTRAINT pk_sweeps PRIMARY KEY (id);


--
-- Name: workers pk_workers; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.workers
    ADD CONSTRAINT pk_workers PRIMARY KEY (id);


--
-- Name: ix_evaluations_run_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_evaluations_run_id ON public.evaluations USING btree (run_id);


--
-- Name: ix_jobs_created_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_jobs_created_at ON public.jobs USING btree (created_at);


--
-- Name: ix_jobs_status_created_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_jobs_status_created_at ON public.jobs USING btree (status, created_at);


--
-- Name: ix_runs_created_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_runs_created_at ON public.runs USING btree (created_at);


--
-- Name: ix_sweep_runs_run_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_sweep_runs_run_id ON public.sweep_runs USING btree (run_id);


--
-- Name: ix_sweeps_created_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_sweeps_created_at ON public.sweeps USING btree (created_at);


--
-- Name: decisions fk_decisions_run_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.decisions
    ADD CONSTRAINT fk_decisions_run_id FOREIGN KEY (run_id) REFERENCES public.runs(id) ON DELETE CASCADE;


--
-- Name: evaluations fk_evaluations_prompts_hash; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.evaluations
    ADD CONSTRAINT fk_evaluations_prompts_hash FOREIGN KEY (prompts_hash) REFERENCES public.prompts(hash);


--
-- Name: evaluations fk_evaluations_run_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.evaluations
    ADD CONSTRAINT fk_evaluations_run_id FOREIGN KEY (run_id) REFERENCES public.runs(id) ON DELETE CASCADE;


--
-- Name: measurements fk_measurements_evaluation_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.measurements
    ADD CONSTRAINT fk_measurements_evaluation_id FOREIGN KEY (evaluation_id) REFERENCES public.evaluations(id) ON DELETE CASCADE;


--
-- Name: runs fk_runs_prompts_hash; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.runs
    ADD CONSTRAINT fk_runs_prompts_hash FOREIGN KEY (prompts_hash) REFERENCES public.prompts(hash);


--
-- Name: sweep_runs fk_sweep_runs_sweep_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.sweep_runs
    ADD CONSTRAINT fk_sweep_runs_sweep_id FOREIGN KEY (sweep_id) REFERENCES public.sweeps(id) ON DELETE CASCADE;


--
-- PostgreSQL database dump complete
--

\unrestrict KBiqZXTRUUWftGdsHFZAZFZ9ncwxCOxwYZ3hDWIhO8Rz3yWwfeP0sheVmCb2mPR

