CREATE TABLE commitments (
    requestor VARCHAR(16) NOT NULL,
    transaction_uid VARCHAR(64) NOT NULL,
    listed TEXT NOT NULL,
    failed TEXT,
    attempt INTEGER NOT NULL,
    asked_at FLOAT NOT NULL,
    due_at FLOAT NOT NULL,
    ended_at FLOAT,
    sentence TEXT NOT NULL,
    PRIMARY KEY (requestor, transaction_uid),
    CONSTRAINT reported_is_ended CHECK (failed IS NULL OR ended_at IS NOT NULL)
);
CREATE INDEX ix_commitments_asked_at ON commitments (asked_at);
CREATE INDEX ix_commitments_ended_at ON commitments (ended_at);
CREATE TABLE conflicts (
    id SERIAL NOT NULL,
    series_instance_uid VARCHAR(64) NOT NULL,
    sop_instance_uid VARCHAR(64) NOT NULL,
    name VARCHAR(80) NOT NULL,
    other_series VARCHAR(64),
    at FLOAT NOT NULL,
    chosen VARCHAR(80),
    PRIMARY KEY (id),
    CONSTRAINT a_contradiction_is_seen_once UNIQUE (series_instance_uid, name)
);
CREATE TABLE instances (
    sop_instance_uid VARCHAR(64) NOT NULL,
    series_instance_uid VARCHAR(64) NOT NULL,
    PRIMARY KEY (sop_instance_uid, series_instance_uid)
);
CREATE INDEX ix_instances_series_instance_uid ON instances (series_instance_uid);
CREATE TABLE series (
    series_instance_uid VARCHAR(64) NOT NULL,
    calling_ae VARCHAR(16) NOT NULL,
    instances INTEGER NOT NULL,
    first_at FLOAT NOT NULL,
    last_at FLOAT NOT NULL,
    job VARCHAR(64),
    pause_s FLOAT DEFAULT '0' NOT NULL,
    PRIMARY KEY (series_instance_uid),
    CONSTRAINT some_instances CHECK (instances > 0)
);
CREATE TABLE jobs (
    job VARCHAR(64) NOT NULL,
    series_instance_uid VARCHAR(64) NOT NULL,
    state VARCHAR(16) NOT NULL,
    held TEXT,
    reason_code VARCHAR(64),
    reason_sentence TEXT,
    calling_ae VARCHAR(16) NOT NULL,
    model TEXT NOT NULL,
    model_digest VARCHAR(64) NOT NULL,
    configuration_digest VARCHAR(64) NOT NULL,
    rule TEXT,
    destinations TEXT,
    settings TEXT,
    sop_instance_uids TEXT NOT NULL,
    ct_series_uid VARCHAR(64),
    ct_instances INTEGER,
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    supersedes VARCHAR(64),
    superseded_by VARCHAR(64),
    replaces VARCHAR(64),
    created_at FLOAT NOT NULL,
    updated_at FLOAT NOT NULL,
    PRIMARY KEY (job),
    CONSTRAINT state_known CHECK (state IN ('RECEIVING', 'RECEIVED', 'SYNTHESIZED', 'DELIVERED', 'REJECTED')),
    CONSTRAINT a_job_has_its_instances CHECK (state <> 'RECEIVING'),
    CONSTRAINT what_is_rejected_waits_for_nobody CHECK (held IS NULL OR state <> 'REJECTED'),
    CONSTRAINT held_for_a_reason CHECK (held IS NULL OR reason_code IS NOT NULL),
    CONSTRAINT rejected_for_a_reason CHECK (state <> 'REJECTED' OR reason_code IS NOT NULL),
    CONSTRAINT a_reason_is_said CHECK ((reason_code IS NULL) = (reason_sentence IS NULL)),
    CONSTRAINT synthesized_has_a_series CHECK (state NOT IN ('SYNTHESIZED', 'DELIVERED') OR (ct_series_uid IS NOT NULL AND ct_instances > 0)),
    CONSTRAINT received_has_none_yet CHECK (state <> 'RECEIVED' OR ct_series_uid IS NULL),
    FOREIGN KEY(series_instance_uid) REFERENCES series (series_instance_uid)
);
CREATE INDEX ix_jobs_series_instance_uid ON jobs (series_instance_uid);
CREATE INDEX ix_jobs_state ON jobs (state);
CREATE TABLE deliveries (
    job VARCHAR(64) NOT NULL,
    destination VARCHAR(64) NOT NULL,
    attempt INTEGER NOT NULL,
    since FLOAT NOT NULL,
    due_at FLOAT NOT NULL,
    sentence TEXT NOT NULL,
    delivered_at FLOAT,
    begun_at FLOAT,
    withdrawn_at FLOAT,
    PRIMARY KEY (job, destination),
    CONSTRAINT attempts_count_from_one CHECK (attempt > 0),
    CONSTRAINT what_is_delivered_stays CHECK (withdrawn_at IS NULL OR delivered_at IS NULL),
    FOREIGN KEY(job) REFERENCES jobs (job)
);
CREATE TABLE events (
    id SERIAL NOT NULL,
    at FLOAT NOT NULL,
    fact VARCHAR(16) NOT NULL,
    series_instance_uid VARCHAR(64) NOT NULL,
    job VARCHAR(64),
    state VARCHAR(16) NOT NULL,
    words TEXT NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT fact_known CHECK (fact IN ('arrived', 'settled', 'synthesized', 'unsuitable', 'failed', 'held', 'released', 'refused', 'postponed', 'taken', 'delivered', 'superseded', 'replaced', 'conflicted')),
    CONSTRAINT state_known CHECK (state IN ('RECEIVING', 'RECEIVED', 'SYNTHESIZED', 'DELIVERED', 'REJECTED')),
    CONSTRAINT only_arrivals_have_no_job CHECK ((job IS NULL) = (fact = 'arrived')),
    FOREIGN KEY(series_instance_uid) REFERENCES series (series_instance_uid),
    FOREIGN KEY(job) REFERENCES jobs (job)
);
CREATE INDEX ix_events_job ON events (job);
CREATE INDEX ix_events_series_instance_uid ON events (series_instance_uid);
CREATE TABLE receipts (
    job VARCHAR(64) NOT NULL,
    destination VARCHAR(64) NOT NULL,
    sop_instance_uid VARCHAR(64) NOT NULL,
    status INTEGER NOT NULL,
    taken BOOLEAN NOT NULL,
    warning BOOLEAN NOT NULL,
    comment TEXT NOT NULL,
    at FLOAT NOT NULL,
    PRIMARY KEY (job, destination, sop_instance_uid),
    CONSTRAINT status_is_16_bit CHECK (status BETWEEN 0 AND 65535),
    FOREIGN KEY(job) REFERENCES jobs (job)
);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.1', 'MR1', 3, 1795387576.5311599, 1795387576.5311599, NULL, 1.5);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.2', 'MR1', 2, 1795387576.5782597, 1795387576.5782597, 'c5206460bfbc3d82eb06655f2a58671d5b140d8d166a535b41e88a9cb1f7d227', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.3', 'MR1', 2, 1795387576.6732337, 1795387576.6732337, 'b5106a90a57e75c523b2ce9bb1540f30f7bc6b196074fdbcb0985610605dd0eb', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.4', 'MR1', 2, 1795387576.7531478, 1795387576.7531478, 'cb4d629c71e77428de2ad58ecd95101c6b39322bd16d1342a20af1099b69d6b4', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.5', 'MR1', 2, 1795387576.841432, 1795387576.841432, '3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.6', 'MR1', 2, 1795387577.201262, 1795387577.201262, '25bc725c50e5e54dfc007dbbc8a49dcd385b21c81351966869281a462a42851a', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.7', 'MR1', 2, 1795387577.3373098, 1795387577.3373098, '176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.8', 'MR1', 2, 1795387577.5252795, 1795387577.5252795, 'fd95c4d54dd9b5afb7f18cd3aa75d9b0959ab1921972dfebe2dff8a426af47bd', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.9', 'MR1', 2, 1795387577.5812051, 1795387577.5812051, '8c592cf0253947a90e89c1b3a7328cfa919b2be39f1b67b02129d8ce668fdece', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.10', 'MR1', 2, 1795387577.6212585, 1795387577.6212585, '120bb40ec1953617df19a1d57059ccab4664151867ed54d6ae99fad5c818e5f3', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.11', 'MR1', 3, 1795387577.689351, 1795387577.7208724, '4465130f569e084b2ab0b82ebd70a83e55dc8caaae4303580e752de82b712b39', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.12', 'MR1', 2, 1795387577.7572148, 1795387577.7572148, 'e2d37954bd807b10825c3f5405a0c4a1cb0ba7da79e364044d202280ba7727b3', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.13', 'MR1', 3, 1795387577.829343, 1795387578.0172863, 'bdba5e4f1e5aff81ddb6112fe7b1180dbc04f3a4c4c2f678b0c35137ee981507', 0.0);
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.1.1', '1.2.1');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.1.2', '1.2.1');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.1.3', '1.2.1');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.2.1', '1.2.2');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.2.2', '1.2.2');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.3.1', '1.2.3');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.3.2', '1.2.3');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.4.1', '1.2.4');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.4.2', '1.2.4');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.5.1', '1.2.5');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.5.2', '1.2.5');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.6.1', '1.2.6');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.6.2', '1.2.6');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.7.1', '1.2.7');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.7.2', '1.2.7');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.8.1', '1.2.8');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.8.2', '1.2.8');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.9.1', '1.2.9');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.9.2', '1.2.9');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.10.1', '1.2.10');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.10.2', '1.2.10');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.11.1', '1.2.11');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.11.2', '1.2.11');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.11.3', '1.2.11');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.12.1', '1.2.12');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.12.2', '1.2.12');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.13.1', '1.2.13');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.13.2', '1.2.13');
INSERT INTO instances (sop_instance_uid, series_instance_uid)
    VALUES ('1.2.13.3', '1.2.13');
INSERT INTO conflicts (id, series_instance_uid, sop_instance_uid, name, other_series, at, chosen)
    VALUES (1, '1.2.12', '1.2.12.1', '1.2.12.1~0123456789ab', NULL, 1795387577.7985237, NULL);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('c5206460bfbc3d82eb06655f2a58671d5b140d8d166a535b41e88a9cb1f7d227', '1.2.2', 'RECEIVED', NULL, NULL, NULL, 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.2.1", "1.2.2.2"]', NULL, NULL, 1, 0, NULL, NULL, NULL, 1795387576.6273315, 1795387576.6273322);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('b5106a90a57e75c523b2ce9bb1540f30f7bc6b196074fdbcb0985610605dd0eb', '1.2.3', 'RECEIVED', NULL, NULL, NULL, 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.3.1", "1.2.3.2"]', NULL, NULL, 2, 1, NULL, NULL, NULL, 1795387576.709576, 1795387576.733541);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('e2d37954bd807b10825c3f5405a0c4a1cb0ba7da79e364044d202280ba7727b3', '1.2.12', 'RECEIVED', 'SOP instance 1.2.12.1 came again with different content; all are kept, and release takes --use first or --use last', 'CONFLICTING_INSTANCES', 'SOP instance 1.2.12.1 came again with different content; all are kept, and release takes --use first or --use last', 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.12.1", "1.2.12.2"]', NULL, NULL, 1, 0, NULL, NULL, NULL, 1795387577.783987, 1795387577.8105597);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('cb4d629c71e77428de2ad58ecd95101c6b39322bd16d1342a20af1099b69d6b4', '1.2.4', 'RECEIVED', 'it failed three times', 'FAILED', 'it failed three times', 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.4.1", "1.2.4.2"]', NULL, NULL, 1, 0, NULL, NULL, NULL, 1795387576.797271, 1795387576.8262062);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('120bb40ec1953617df19a1d57059ccab4664151867ed54d6ae99fad5c818e5f3', '1.2.10', 'REJECTED', NULL, 'REJECTED_BY_PERSON', 'not wanted', 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.10.1", "1.2.10.2"]', NULL, NULL, 1, 0, NULL, NULL, NULL, 1795387577.651466, 1795387577.6778753);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('48a2445679ce80982246db7c2064e47a273c71364695c2a83981d265ebbc1983', '1.2.11', 'REJECTED', NULL, 'SUPERSEDED', 'more instances of the series came; job 4465130f569e takes its place', 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.11.1", "1.2.11.2"]', NULL, NULL, 1, 0, NULL, '4465130f569e084b2ab0b82ebd70a83e55dc8caaae4303580e752de82b712b39', NULL, 1795387577.711504, 1795387577.7456164);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', '1.2.5', 'SYNTHESIZED', NULL, NULL, NULL, 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.5.1", "1.2.5.2"]', '2.25.5', 2, 1, 0, NULL, NULL, NULL, 1795387576.9052515, 1795387577.1656492);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', '1.2.7', 'DELIVERED', NULL, NULL, NULL, 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.7.1", "1.2.7.2"]', '2.25.7', 2, 1, 0, NULL, NULL, NULL, 1795387577.401418, 1795387577.5176933);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('25bc725c50e5e54dfc007dbbc8a49dcd385b21c81351966869281a462a42851a', '1.2.6', 'SYNTHESIZED', 'the body is small', 'BODY', 'the body is small', 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.6.1", "1.2.6.2"]', '2.25.6', 2, 1, 0, NULL, NULL, NULL, 1795387577.2724187, 1795387577.3218086);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('4465130f569e084b2ab0b82ebd70a83e55dc8caaae4303580e752de82b712b39', '1.2.11', 'RECEIVED', NULL, NULL, NULL, 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.11.1", "1.2.11.2", "1.2.11.3"]', NULL, NULL, 1, 0, '48a2445679ce80982246db7c2064e47a273c71364695c2a83981d265ebbc1983', NULL, NULL, 1795387577.7482328, 1795387577.7482336);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('fd95c4d54dd9b5afb7f18cd3aa75d9b0959ab1921972dfebe2dff8a426af47bd', '1.2.8', 'REJECTED', NULL, 'GAP', 'a slice is missing', 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.8.1", "1.2.8.2"]', NULL, NULL, 1, 0, NULL, NULL, NULL, 1795387577.5560393, 1795387577.5708153);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('8c592cf0253947a90e89c1b3a7328cfa919b2be39f1b67b02129d8ce668fdece', '1.2.9', 'REJECTED', NULL, 'IGNORED_BY_RULE', 'rule localizers ignores it', 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'localizers', '[]', '{}', '["1.2.9.1", "1.2.9.2"]', NULL, NULL, 1, 0, NULL, NULL, NULL, 1795387577.6098506, 1795387577.6122751);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('bdba5e4f1e5aff81ddb6112fe7b1180dbc04f3a4c4c2f678b0c35137ee981507', '1.2.13', 'RECEIVED', NULL, NULL, NULL, 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.13.1", "1.2.13.2", "1.2.13.3"]', NULL, NULL, 1, 0, '723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', NULL, '2.25.13', 1795387578.1073976, 1795387578.107398);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', '1.2.13', 'DELIVERED', NULL, NULL, NULL, 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.13.1", "1.2.13.2"]', '2.25.13', 2, 1, 0, NULL, 'bdba5e4f1e5aff81ddb6112fe7b1180dbc04f3a4c4c2f678b0c35137ee981507', NULL, 1795387577.8604374, 1795387578.1057553);
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (1, 1795387576.5452712, 'arrived', '1.2.1', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (2, 1795387576.5851068, 'arrived', '1.2.2', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (3, 1795387576.6411204, 'settled', '1.2.2', 'c5206460bfbc3d82eb06655f2a58671d5b140d8d166a535b41e88a9cb1f7d227', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (4, 1795387576.6754756, 'arrived', '1.2.3', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (5, 1795387576.7130792, 'settled', '1.2.3', 'b5106a90a57e75c523b2ce9bb1540f30f7bc6b196074fdbcb0985610605dd0eb', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (6, 1795387576.7378824, 'failed', '1.2.3', 'b5106a90a57e75c523b2ce9bb1540f30f7bc6b196074fdbcb0985610605dd0eb', 'RECEIVED', 'it failed
Traceback');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (7, 1795387576.7641506, 'arrived', '1.2.4', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (8, 1795387576.8010898, 'settled', '1.2.4', 'cb4d629c71e77428de2ad58ecd95101c6b39322bd16d1342a20af1099b69d6b4', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (9, 1795387576.8282323, 'held', '1.2.4', 'cb4d629c71e77428de2ad58ecd95101c6b39322bd16d1342a20af1099b69d6b4', 'RECEIVED', 'it failed three times
Traceback');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (10, 1795387576.85403, 'arrived', '1.2.5', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (11, 1795387576.909187, 'settled', '1.2.5', '3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (12, 1795387576.9379842, 'synthesized', '1.2.5', '3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 'SYNTHESIZED', '2 instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (13, 1795387577.0492234, 'taken', '1.2.5', '3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 'SYNTHESIZED', 'archive');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (14, 1795387577.1687672, 'postponed', '1.2.5', '3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 'SYNTHESIZED', 'planning refuses 1');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (15, 1795387577.222868, 'arrived', '1.2.6', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (16, 1795387577.2735698, 'settled', '1.2.6', '25bc725c50e5e54dfc007dbbc8a49dcd385b21c81351966869281a462a42851a', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (17, 1795387577.3260808, 'synthesized', '1.2.6', '25bc725c50e5e54dfc007dbbc8a49dcd385b21c81351966869281a462a42851a', 'SYNTHESIZED', '2 instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (18, 1795387577.3531961, 'arrived', '1.2.7', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (19, 1795387577.4295373, 'settled', '1.2.7', '176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (20, 1795387577.4495676, 'synthesized', '1.2.7', '176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'SYNTHESIZED', '2 instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (21, 1795387577.489248, 'taken', '1.2.7', '176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'SYNTHESIZED', 'planning');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (22, 1795387577.5108497, 'taken', '1.2.7', '176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'SYNTHESIZED', 'archive');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (23, 1795387577.519244, 'delivered', '1.2.7', '176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'DELIVERED', 'every destination has every instance');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (24, 1795387577.5273392, 'arrived', '1.2.8', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (25, 1795387577.5611365, 'settled', '1.2.8', 'fd95c4d54dd9b5afb7f18cd3aa75d9b0959ab1921972dfebe2dff8a426af47bd', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (26, 1795387577.5739157, 'unsuitable', '1.2.8', 'fd95c4d54dd9b5afb7f18cd3aa75d9b0959ab1921972dfebe2dff8a426af47bd', 'REJECTED', 'a slice is missing');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (27, 1795387577.5839138, 'arrived', '1.2.9', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (28, 1795387577.6111488, 'settled', '1.2.9', '8c592cf0253947a90e89c1b3a7328cfa919b2be39f1b67b02129d8ce668fdece', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (29, 1795387577.6173248, 'unsuitable', '1.2.9', '8c592cf0253947a90e89c1b3a7328cfa919b2be39f1b67b02129d8ce668fdece', 'REJECTED', 'rule localizers ignores it');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (30, 1795387577.6337183, 'arrived', '1.2.10', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (31, 1795387577.6576931, 'settled', '1.2.10', '120bb40ec1953617df19a1d57059ccab4664151867ed54d6ae99fad5c818e5f3', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (32, 1795387577.6738124, 'held', '1.2.10', '120bb40ec1953617df19a1d57059ccab4664151867ed54d6ae99fad5c818e5f3', 'RECEIVED', 'it failed');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (33, 1795387577.682061, 'refused', '1.2.10', '120bb40ec1953617df19a1d57059ccab4664151867ed54d6ae99fad5c818e5f3', 'REJECTED', 'not wanted');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (34, 1795387577.6971395, 'arrived', '1.2.11', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (35, 1795387577.7171154, 'settled', '1.2.11', '48a2445679ce80982246db7c2064e47a273c71364695c2a83981d265ebbc1983', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (36, 1795387577.7256973, 'arrived', '1.2.11', NULL, 'RECEIVING', 'more instances after the series was taken');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (37, 1795387577.7476354, 'superseded', '1.2.11', '48a2445679ce80982246db7c2064e47a273c71364695c2a83981d265ebbc1983', 'REJECTED', 'more instances of the series came; job 4465130f569e takes its place');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (38, 1795387577.7487984, 'settled', '1.2.11', '4465130f569e084b2ab0b82ebd70a83e55dc8caaae4303580e752de82b712b39', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (39, 1795387577.762625, 'arrived', '1.2.12', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (40, 1795387577.7847428, 'settled', '1.2.12', 'e2d37954bd807b10825c3f5405a0c4a1cb0ba7da79e364044d202280ba7727b3', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (41, 1795387577.817281, 'conflicted', '1.2.12', 'e2d37954bd807b10825c3f5405a0c4a1cb0ba7da79e364044d202280ba7727b3', 'RECEIVED', 'SOP instance 1.2.12.1 came again with different content; all are kept, and release takes --use first or --use last');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (42, 1795387577.834084, 'arrived', '1.2.13', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (43, 1795387577.8609927, 'settled', '1.2.13', '723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (44, 1795387577.905469, 'synthesized', '1.2.13', '723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', 'SYNTHESIZED', '2 instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (45, 1795387577.9895673, 'taken', '1.2.13', '723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', 'SYNTHESIZED', 'planning');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (46, 1795387578.0330577, 'arrived', '1.2.13', NULL, 'RECEIVING', 'more instances after the series was taken');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (47, 1795387578.0801318, 'replaced', '1.2.13', '723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', 'SYNTHESIZED', 'more instances of the series came; job bdba5e4f1e5a takes its place');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (48, 1795387578.1068542, 'delivered', '1.2.13', '723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', 'DELIVERED', 'every destination has every instance');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (49, 1795387578.107876, 'settled', '1.2.13', 'bdba5e4f1e5aff81ddb6112fe7b1180dbc04f3a4c4c2f678b0c35137ee981507', 'RECEIVED', 'complete');
INSERT INTO deliveries (job, destination, attempt, since, due_at, sentence, delivered_at, begun_at, withdrawn_at)
    VALUES ('3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 'archive', 1, 1795387576.9454787, 1795387576.9454787, '', 1795387577.0305548, 1795387576.9803357, NULL);
INSERT INTO deliveries (job, destination, attempt, since, due_at, sentence, delivered_at, begun_at, withdrawn_at)
    VALUES ('3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 'planning', 2, 1795387576.9454787, 1795387637.1532867, 'planning refuses 1', NULL, 1795387577.1021922, NULL);
INSERT INTO deliveries (job, destination, attempt, since, due_at, sentence, delivered_at, begun_at, withdrawn_at)
    VALUES ('25bc725c50e5e54dfc007dbbc8a49dcd385b21c81351966869281a462a42851a', 'planning', 1, 1795387577.3271449, 1795387577.3271449, '', NULL, NULL, NULL);
INSERT INTO deliveries (job, destination, attempt, since, due_at, sentence, delivered_at, begun_at, withdrawn_at)
    VALUES ('25bc725c50e5e54dfc007dbbc8a49dcd385b21c81351966869281a462a42851a', 'archive', 1, 1795387577.3271449, 1795387577.3271449, '', NULL, NULL, NULL);
INSERT INTO deliveries (job, destination, attempt, since, due_at, sentence, delivered_at, begun_at, withdrawn_at)
    VALUES ('176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'planning', 1, 1795387577.4502673, 1795387577.4502673, '', 1795387577.4819002, 1795387577.4630485, NULL);
INSERT INTO deliveries (job, destination, attempt, since, due_at, sentence, delivered_at, begun_at, withdrawn_at)
    VALUES ('176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'archive', 1, 1795387577.4502673, 1795387577.4502673, '', 1795387577.5056267, 1795387577.494162, NULL);
INSERT INTO deliveries (job, destination, attempt, since, due_at, sentence, delivered_at, begun_at, withdrawn_at)
    VALUES ('723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', 'planning', 1, 1795387577.9092476, 1795387577.9092476, '', 1795387577.977886, 1795387577.944726, NULL);
INSERT INTO deliveries (job, destination, attempt, since, due_at, sentence, delivered_at, begun_at, withdrawn_at)
    VALUES ('723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', 'archive', 1, 1795387577.9092476, 1795387577.9092476, '', NULL, NULL, 1795387578.0855267);
INSERT INTO receipts (job, destination, sop_instance_uid, status, taken, warning, comment, at)
    VALUES ('3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 'archive', '2.25.5.1', 0, true, false, '', 1795387576.993211);
INSERT INTO receipts (job, destination, sop_instance_uid, status, taken, warning, comment, at)
    VALUES ('3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 'archive', '2.25.5.2', 0, true, false, '', 1795387576.993234);
INSERT INTO receipts (job, destination, sop_instance_uid, status, taken, warning, comment, at)
    VALUES ('3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 'planning', '2.25.5.1', 0, true, false, '', 1795387577.117606);
INSERT INTO receipts (job, destination, sop_instance_uid, status, taken, warning, comment, at)
    VALUES ('3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 'planning', '2.25.5.2', 42752, false, false, '', 1795387577.11763);
INSERT INTO receipts (job, destination, sop_instance_uid, status, taken, warning, comment, at)
    VALUES ('176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'planning', '2.25.7.1', 0, true, false, '', 1795387577.46927);
INSERT INTO receipts (job, destination, sop_instance_uid, status, taken, warning, comment, at)
    VALUES ('176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'planning', '2.25.7.2', 45056, true, true, '', 1795387577.469291);
INSERT INTO receipts (job, destination, sop_instance_uid, status, taken, warning, comment, at)
    VALUES ('176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'archive', '2.25.7.1', 0, true, false, '', 1795387577.497049);
INSERT INTO receipts (job, destination, sop_instance_uid, status, taken, warning, comment, at)
    VALUES ('176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'archive', '2.25.7.2', 45056, true, true, '', 1795387577.497063);
INSERT INTO receipts (job, destination, sop_instance_uid, status, taken, warning, comment, at)
    VALUES ('723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', 'planning', '2.25.13.1', 0, true, false, '', 1795387577.950715);
INSERT INTO receipts (job, destination, sop_instance_uid, status, taken, warning, comment, at)
    VALUES ('723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', 'planning', '2.25.13.2', 0, true, false, '', 1795387577.950739);
INSERT INTO commitments (requestor, transaction_uid, listed, failed, attempt, asked_at, due_at, ended_at, sentence)
    VALUES ('MR1', '2.25.771', '{"1.2.2.1": "1.2.840.10008.5.1.4.1.1.4"}', NULL, 1, 1795387578.1252415, 1795387579.6252415, NULL, '');
INSERT INTO commitments (requestor, transaction_uid, listed, failed, attempt, asked_at, due_at, ended_at, sentence)
    VALUES ('MR1', '2.25.772', '{"1.2.2.2": "1.2.840.10008.5.1.4.1.1.4"}', '{}', 1, 1795387578.1410704, 1795387579.6410704, 1795387578.1577113, '');
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:c5206460bfbc3d82eb06655f2a58671d5b140d8d166a535b41e88a9cb1f7d227:1', 'ENQUEUED', 'synthesize', 1795387576614, 1795387576614, '1', 0, 'synthesize', 0, 'portable_json', false, false, false, 'sct-node', '961c0c47-ba6c-49f4-979f-521cd2ae2d34');
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:b5106a90a57e75c523b2ce9bb1540f30f7bc6b196074fdbcb0985610605dd0eb:1', 'ENQUEUED', 'synthesize', 1795387576702, 1795387576702, '1', 0, 'synthesize', 0, 'portable_json', false, false, false, 'sct-node', '7c7ae248-9b22-4e35-a71b-248ddb173827');
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, delay_until_epoch_ms, was_forked_from, rate_limited, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:b5106a90a57e75c523b2ce9bb1540f30f7bc6b196074fdbcb0985610605dd0eb:2', 'DELAYED', 'synthesize', 1795387576734, 1795387576734, '1', 0, 'synthesize', 0, 'portable_json', 1795387636738, false, false, false, 'sct-node', '553358ab-804a-4ba5-bca2-a9d56ec8bdfa');
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:cb4d629c71e77428de2ad58ecd95101c6b39322bd16d1342a20af1099b69d6b4:1', 'ENQUEUED', 'synthesize', 1795387576790, 1795387576790, '1', 0, 'synthesize', 0, 'portable_json', false, false, false, 'sct-node', '3190d277-67c4-4a4b-bc34-92a4324c19a2');
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca:1', 'ENQUEUED', 'synthesize', 1795387576894, 1795387576894, '1', 0, 'synthesize', 0, 'portable_json', false, false, false, 'sct-node', '488c26a8-25d3-45de-a829-105ff6574bbd');
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, queue_partition_key, serialization, was_forked_from, rate_limited, is_debounced, application_name, creator_xid)
    VALUES ('deliver:3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca:planning:1', 'ENQUEUED', 'deliver', 1795387576937, 1795387576937, '1', 0, 'deliver', 0, 'planning', 'portable_json', false, false, false, 'sct-node', '32df2b7f-0b19-4596-8091-de340efee32c');
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, queue_partition_key, serialization, was_forked_from, rate_limited, is_debounced, application_name, creator_xid)
    VALUES ('deliver:3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca:archive:1', 'ENQUEUED', 'deliver', 1795387576937, 1795387576937, '1', 0, 'deliver', 0, 'archive', 'portable_json', false, false, false, 'sct-node', 'c05209bb-e509-4d2a-a1f6-16d2c996e8f2');
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, queue_partition_key, serialization, delay_until_epoch_ms, was_forked_from, rate_limited, is_debounced, application_name, creator_xid)
    VALUES ('deliver:3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca:planning:2', 'DELAYED', 'deliver', 1795387577159, 1795387577159, '1', 0, 'deliver', 0, 'planning', 'portable_json', 1795387637173, false, false, false, 'sct-node', '0ae348c1-e380-4c73-b1a7-a7f3098da6ba');
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:25bc725c50e5e54dfc007dbbc8a49dcd385b21c81351966869281a462a42851a:1', 'ENQUEUED', 'synthesize', 1795387577269, 1795387577269, '1', 0, 'synthesize', 0, 'portable_json', false, false, false, 'sct-node', '8cb1a815-6c46-45fa-810f-2fb94dc82475');
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec:1', 'ENQUEUED', 'synthesize', 1795387577390, 1795387577390, '1', 0, 'synthesize', 0, 'portable_json', false, false, false, 'sct-node', '73846d47-7a1c-40ba-bf2d-0e002dd1b931');
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, queue_partition_key, serialization, was_forked_from, rate_limited, is_debounced, application_name, creator_xid)
    VALUES ('deliver:176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec:planning:1', 'ENQUEUED', 'deliver', 1795387577446, 1795387577446, '1', 0, 'deliver', 0, 'planning', 'portable_json', false, false, false, 'sct-node', 'e29cf974-b4f0-41ca-a68a-10d50516269a');
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, queue_partition_key, serialization, was_forked_from, rate_limited, is_debounced, application_name, creator_xid)
    VALUES ('deliver:176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec:archive:1', 'ENQUEUED', 'deliver', 1795387577446, 1795387577446, '1', 0, 'deliver', 0, 'archive', 'portable_json', false, false, false, 'sct-node', '9e87e58e-98b2-423c-8f65-6db2c24903b6');
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:fd95c4d54dd9b5afb7f18cd3aa75d9b0959ab1921972dfebe2dff8a426af47bd:1', 'ENQUEUED', 'synthesize', 1795387577554, 1795387577554, '1', 0, 'synthesize', 0, 'portable_json', false, false, false, 'sct-node', 'cc2a507e-36c9-46fc-b7f1-c6760085ddbd');
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:120bb40ec1953617df19a1d57059ccab4664151867ed54d6ae99fad5c818e5f3:1', 'ENQUEUED', 'synthesize', 1795387577646, 1795387577646, '1', 0, 'synthesize', 0, 'portable_json', false, false, false, 'sct-node', 'efe56cb0-827d-4f3d-9ffb-1c4e6adbc91f');
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:48a2445679ce80982246db7c2064e47a273c71364695c2a83981d265ebbc1983:1', 'ENQUEUED', 'synthesize', 1795387577710, 1795387577710, '1', 0, 'synthesize', 0, 'portable_json', false, false, false, 'sct-node', '25843e71-4f68-4063-bef9-fa8932818fa5');
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:4465130f569e084b2ab0b82ebd70a83e55dc8caaae4303580e752de82b712b39:1', 'ENQUEUED', 'synthesize', 1795387577738, 1795387577738, '1', 0, 'synthesize', 0, 'portable_json', false, false, false, 'sct-node', 'd9f73781-26d6-40ec-ac7e-7b2c16b27853');
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:e2d37954bd807b10825c3f5405a0c4a1cb0ba7da79e364044d202280ba7727b3:1', 'ENQUEUED', 'synthesize', 1795387577782, 1795387577782, '1', 0, 'synthesize', 0, 'portable_json', false, false, false, 'sct-node', '065cdf3a-b468-42d0-ad0b-f8c2fedd777c');
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8:1', 'ENQUEUED', 'synthesize', 1795387577859, 1795387577859, '1', 0, 'synthesize', 0, 'portable_json', false, false, false, 'sct-node', '4b6ce596-8e7b-4a1d-b36a-3b7aed27c00a');
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, queue_partition_key, serialization, was_forked_from, rate_limited, is_debounced, application_name, creator_xid)
    VALUES ('deliver:723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8:planning:1', 'ENQUEUED', 'deliver', 1795387577894, 1795387577894, '1', 0, 'deliver', 0, 'planning', 'portable_json', false, false, false, 'sct-node', '9838750d-f639-44d5-928a-1ba987db9a73');
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, queue_partition_key, serialization, was_forked_from, rate_limited, is_debounced, application_name, creator_xid)
    VALUES ('deliver:723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8:archive:1', 'ENQUEUED', 'deliver', 1795387577894, 1795387577894, '1', 0, 'deliver', 0, 'archive', 'portable_json', false, false, false, 'sct-node', '3f4410a6-2880-4cd6-9278-11e9d362aa57');
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:bdba5e4f1e5aff81ddb6112fe7b1180dbc04f3a4c4c2f678b0c35137ee981507:1', 'ENQUEUED', 'synthesize', 1795387578070, 1795387578070, '1', 0, 'synthesize', 0, 'portable_json', false, false, false, 'sct-node', 'd333d825-716d-435f-b4d4-f41fcabb1670');
INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:c5206460bfbc3d82eb06655f2a58671d5b140d8d166a535b41e88a9cb1f7d227:1', '{"namedArgs":{},"positionalArgs":["c5206460bfbc3d82eb06655f2a58671d5b140d8d166a535b41e88a9cb1f7d227",1]}', 1795387576614);
INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:b5106a90a57e75c523b2ce9bb1540f30f7bc6b196074fdbcb0985610605dd0eb:1', '{"namedArgs":{},"positionalArgs":["b5106a90a57e75c523b2ce9bb1540f30f7bc6b196074fdbcb0985610605dd0eb",1]}', 1795387576702);
INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:b5106a90a57e75c523b2ce9bb1540f30f7bc6b196074fdbcb0985610605dd0eb:2', '{"namedArgs":{},"positionalArgs":["b5106a90a57e75c523b2ce9bb1540f30f7bc6b196074fdbcb0985610605dd0eb",2]}', 1795387576734);
INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:cb4d629c71e77428de2ad58ecd95101c6b39322bd16d1342a20af1099b69d6b4:1', '{"namedArgs":{},"positionalArgs":["cb4d629c71e77428de2ad58ecd95101c6b39322bd16d1342a20af1099b69d6b4",1]}', 1795387576790);
INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca:1', '{"namedArgs":{},"positionalArgs":["3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca",1]}', 1795387576894);
INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('deliver:3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca:planning:1', '{"namedArgs":{},"positionalArgs":["3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca","planning",1]}', 1795387576937);
INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('deliver:3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca:archive:1', '{"namedArgs":{},"positionalArgs":["3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca","archive",1]}', 1795387576937);
INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('deliver:3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca:planning:2', '{"namedArgs":{},"positionalArgs":["3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca","planning",2]}', 1795387577159);
INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:25bc725c50e5e54dfc007dbbc8a49dcd385b21c81351966869281a462a42851a:1', '{"namedArgs":{},"positionalArgs":["25bc725c50e5e54dfc007dbbc8a49dcd385b21c81351966869281a462a42851a",1]}', 1795387577269);
INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec:1', '{"namedArgs":{},"positionalArgs":["176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec",1]}', 1795387577390);
INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('deliver:176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec:planning:1', '{"namedArgs":{},"positionalArgs":["176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec","planning",1]}', 1795387577446);
INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('deliver:176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec:archive:1', '{"namedArgs":{},"positionalArgs":["176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec","archive",1]}', 1795387577446);
INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:fd95c4d54dd9b5afb7f18cd3aa75d9b0959ab1921972dfebe2dff8a426af47bd:1', '{"namedArgs":{},"positionalArgs":["fd95c4d54dd9b5afb7f18cd3aa75d9b0959ab1921972dfebe2dff8a426af47bd",1]}', 1795387577554);
INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:120bb40ec1953617df19a1d57059ccab4664151867ed54d6ae99fad5c818e5f3:1', '{"namedArgs":{},"positionalArgs":["120bb40ec1953617df19a1d57059ccab4664151867ed54d6ae99fad5c818e5f3",1]}', 1795387577646);
INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:48a2445679ce80982246db7c2064e47a273c71364695c2a83981d265ebbc1983:1', '{"namedArgs":{},"positionalArgs":["48a2445679ce80982246db7c2064e47a273c71364695c2a83981d265ebbc1983",1]}', 1795387577710);
INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:4465130f569e084b2ab0b82ebd70a83e55dc8caaae4303580e752de82b712b39:1', '{"namedArgs":{},"positionalArgs":["4465130f569e084b2ab0b82ebd70a83e55dc8caaae4303580e752de82b712b39",1]}', 1795387577738);
INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:e2d37954bd807b10825c3f5405a0c4a1cb0ba7da79e364044d202280ba7727b3:1', '{"namedArgs":{},"positionalArgs":["e2d37954bd807b10825c3f5405a0c4a1cb0ba7da79e364044d202280ba7727b3",1]}', 1795387577782);
INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8:1', '{"namedArgs":{},"positionalArgs":["723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8",1]}', 1795387577859);
INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('deliver:723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8:planning:1', '{"namedArgs":{},"positionalArgs":["723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8","planning",1]}', 1795387577894);
INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('deliver:723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8:archive:1', '{"namedArgs":{},"positionalArgs":["723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8","archive",1]}', 1795387577894);
INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:bdba5e4f1e5aff81ddb6112fe7b1180dbc04f3a4c4c2f678b0c35137ee981507:1', '{"namedArgs":{},"positionalArgs":["bdba5e4f1e5aff81ddb6112fe7b1180dbc04f3a4c4c2f678b0c35137ee981507",1]}', 1795387578070);
SELECT setval('conflicts_id_seq', (SELECT max(id) FROM conflicts));
SELECT setval('events_id_seq', (SELECT max(id) FROM events));
