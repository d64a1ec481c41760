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
CREATE TABLE instances (
    sop_instance_uid VARCHAR(64) NOT NULL,
    series_instance_uid VARCHAR(64) NOT NULL,
    PRIMARY KEY (sop_instance_uid, series_instance_uid)
);
CREATE INDEX ix_instances_series_instance_uid ON instances (series_instance_uid);
CREATE TABLE conflicts (
    id INTEGER NOT NULL,
    series_instance_uid VARCHAR(64) NOT NULL,
    sop_instance_uid VARCHAR(64) NOT NULL,
    name VARCHAR(80) NOT NULL,
    other_series VARCHAR(64),
    at FLOAT NOT NULL,
    chosen VARCHAR(80),
    PRIMARY KEY (id),
    CONSTRAINT a_contradiction_is_seen_once UNIQUE (series_instance_uid, name)
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
CREATE INDEX ix_jobs_state ON jobs (state);
CREATE INDEX ix_jobs_series_instance_uid ON jobs (series_instance_uid);
CREATE TABLE events (
    id INTEGER NOT NULL,
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
CREATE INDEX ix_commitments_ended_at ON commitments (ended_at);
CREATE INDEX ix_commitments_asked_at ON commitments (asked_at);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.1', 'MR1', 3, 1795387449.2671428, 1795387449.2671428, NULL, 1.5);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.2', 'MR1', 2, 1795387449.2822976, 1795387449.2822976, 'c5206460bfbc3d82eb06655f2a58671d5b140d8d166a535b41e88a9cb1f7d227', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.3', 'MR1', 2, 1795387449.309035, 1795387449.309035, 'b5106a90a57e75c523b2ce9bb1540f30f7bc6b196074fdbcb0985610605dd0eb', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.4', 'MR1', 2, 1795387449.3415198, 1795387449.3415198, 'cb4d629c71e77428de2ad58ecd95101c6b39322bd16d1342a20af1099b69d6b4', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.5', 'MR1', 2, 1795387449.3688686, 1795387449.3688686, '3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.6', 'MR1', 2, 1795387449.4125185, 1795387449.4125185, '25bc725c50e5e54dfc007dbbc8a49dcd385b21c81351966869281a462a42851a', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.7', 'MR1', 2, 1795387449.424575, 1795387449.424575, '176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.8', 'MR1', 2, 1795387449.4573138, 1795387449.4573138, 'fd95c4d54dd9b5afb7f18cd3aa75d9b0959ab1921972dfebe2dff8a426af47bd', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.9', 'MR1', 2, 1795387449.4781897, 1795387449.4781897, '8c592cf0253947a90e89c1b3a7328cfa919b2be39f1b67b02129d8ce668fdece', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.10', 'MR1', 2, 1795387449.5033915, 1795387449.5033915, '120bb40ec1953617df19a1d57059ccab4664151867ed54d6ae99fad5c818e5f3', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.11', 'MR1', 3, 1795387449.536262, 1795387449.5559864, '4465130f569e084b2ab0b82ebd70a83e55dc8caaae4303580e752de82b712b39', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.12', 'MR1', 2, 1795387449.5681112, 1795387449.5681112, 'e2d37954bd807b10825c3f5405a0c4a1cb0ba7da79e364044d202280ba7727b3', 0.0);
INSERT INTO series (series_instance_uid, calling_ae, instances, first_at, last_at, job, pause_s)
    VALUES ('1.2.13', 'MR1', 3, 1795387449.582912, 1795387449.6054504, 'bdba5e4f1e5aff81ddb6112fe7b1180dbc04f3a4c4c2f678b0c35137ee981507', 0.0);
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
    VALUES (1, '1.2.12', '1.2.12.1', '1.2.12.1~0123456789ab', NULL, 1795387449.5773919, NULL);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('c5206460bfbc3d82eb06655f2a58671d5b140d8d166a535b41e88a9cb1f7d227', '1.2.2', 'RECEIVED', NULL, NULL, NULL, 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.2.1", "1.2.2.2"]', NULL, NULL, 1, 0, NULL, NULL, NULL, 1795387449.2922723, 1795387449.2922728);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('b5106a90a57e75c523b2ce9bb1540f30f7bc6b196074fdbcb0985610605dd0eb', '1.2.3', 'RECEIVED', NULL, NULL, NULL, 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.3.1", "1.2.3.2"]', NULL, NULL, 2, 1, NULL, NULL, NULL, 1795387449.3225648, 1795387449.3333738);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('cb4d629c71e77428de2ad58ecd95101c6b39322bd16d1342a20af1099b69d6b4', '1.2.4', 'RECEIVED', 'it failed three times', 'FAILED', 'it failed three times', 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.4.1", "1.2.4.2"]', NULL, NULL, 1, 0, NULL, NULL, NULL, 1795387449.3533583, 1795387449.3637142);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', '1.2.5', 'SYNTHESIZED', NULL, NULL, NULL, 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.5.1", "1.2.5.2"]', '2.25.5', 2, 1, 0, NULL, NULL, NULL, 1795387449.3771076, 1795387449.4099455);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('25bc725c50e5e54dfc007dbbc8a49dcd385b21c81351966869281a462a42851a', '1.2.6', 'SYNTHESIZED', 'the body is small', 'BODY', 'the body is small', 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.6.1", "1.2.6.2"]', '2.25.6', 2, 1, 0, NULL, NULL, NULL, 1795387449.4176376, 1795387449.4226496);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', '1.2.7', 'DELIVERED', NULL, NULL, NULL, 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.7.1", "1.2.7.2"]', '2.25.7', 2, 1, 0, NULL, NULL, NULL, 1795387449.4294827, 1795387449.4553638);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('fd95c4d54dd9b5afb7f18cd3aa75d9b0959ab1921972dfebe2dff8a426af47bd', '1.2.8', 'REJECTED', NULL, 'GAP', 'a slice is missing', 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.8.1", "1.2.8.2"]', NULL, NULL, 1, 0, NULL, NULL, NULL, 1795387449.462175, 1795387449.4720716);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('8c592cf0253947a90e89c1b3a7328cfa919b2be39f1b67b02129d8ce668fdece', '1.2.9', 'REJECTED', NULL, 'IGNORED_BY_RULE', 'rule localizers ignores it', 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'localizers', '[]', '{}', '["1.2.9.1", "1.2.9.2"]', NULL, NULL, 1, 0, NULL, NULL, NULL, 1795387449.4941623, 1795387449.4982078);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('120bb40ec1953617df19a1d57059ccab4664151867ed54d6ae99fad5c818e5f3', '1.2.10', 'REJECTED', NULL, 'REJECTED_BY_PERSON', 'not wanted', 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.10.1", "1.2.10.2"]', NULL, NULL, 1, 0, NULL, NULL, NULL, 1795387449.5163388, 1795387449.5289369);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('48a2445679ce80982246db7c2064e47a273c71364695c2a83981d265ebbc1983', '1.2.11', 'REJECTED', NULL, 'SUPERSEDED', 'more instances of the series came; job 4465130f569e takes its place', 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.11.1", "1.2.11.2"]', NULL, NULL, 1, 0, NULL, '4465130f569e084b2ab0b82ebd70a83e55dc8caaae4303580e752de82b712b39', NULL, 1795387449.5499384, 1795387449.5625892);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('4465130f569e084b2ab0b82ebd70a83e55dc8caaae4303580e752de82b712b39', '1.2.11', 'RECEIVED', NULL, NULL, NULL, 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.11.1", "1.2.11.2", "1.2.11.3"]', NULL, NULL, 1, 0, '48a2445679ce80982246db7c2064e47a273c71364695c2a83981d265ebbc1983', NULL, NULL, 1795387449.5634594, 1795387449.5634594);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('e2d37954bd807b10825c3f5405a0c4a1cb0ba7da79e364044d202280ba7727b3', '1.2.12', 'RECEIVED', 'SOP instance 1.2.12.1 came again with different content; all are kept, and release takes --use first or --use last', 'CONFLICTING_INSTANCES', 'SOP instance 1.2.12.1 came again with different content; all are kept, and release takes --use first or --use last', 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.12.1", "1.2.12.2"]', NULL, NULL, 1, 0, NULL, NULL, NULL, 1795387449.574216, 1795387449.5802183);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', '1.2.13', 'DELIVERED', NULL, NULL, NULL, 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.13.1", "1.2.13.2"]', '2.25.13', 2, 1, 0, NULL, 'bdba5e4f1e5aff81ddb6112fe7b1180dbc04f3a4c4c2f678b0c35137ee981507', NULL, 1795387449.589494, 1795387449.6149302);
INSERT INTO jobs (job, series_instance_uid, state, held, reason_code, reason_sentence, calling_ae, model, model_digest, configuration_digest, rule, destinations, settings, sop_instance_uids, ct_series_uid, ct_instances, attempt, failures, supersedes, superseded_by, replaces, created_at, updated_at)
    VALUES ('bdba5e4f1e5aff81ddb6112fe7b1180dbc04f3a4c4c2f678b0c35137ee981507', '1.2.13', 'RECEIVED', NULL, NULL, NULL, 'MR1', 'tiny', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'thigh T1', '["planning", "archive"]', '{"n": 1}', '["1.2.13.1", "1.2.13.2", "1.2.13.3"]', NULL, NULL, 1, 0, '723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', NULL, '2.25.13', 1795387449.6163576, 1795387449.6163578);
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (1, 1795387449.2736123, 'arrived', '1.2.1', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (2, 1795387449.2829783, 'arrived', '1.2.2', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (3, 1795387449.293014, 'settled', '1.2.2', 'c5206460bfbc3d82eb06655f2a58671d5b140d8d166a535b41e88a9cb1f7d227', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (4, 1795387449.3122756, 'arrived', '1.2.3', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (5, 1795387449.3241568, 'settled', '1.2.3', 'b5106a90a57e75c523b2ce9bb1540f30f7bc6b196074fdbcb0985610605dd0eb', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (6, 1795387449.3367536, 'failed', '1.2.3', 'b5106a90a57e75c523b2ce9bb1540f30f7bc6b196074fdbcb0985610605dd0eb', 'RECEIVED', 'it failed
Traceback');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (7, 1795387449.3422105, 'arrived', '1.2.4', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (8, 1795387449.3559296, 'settled', '1.2.4', 'cb4d629c71e77428de2ad58ecd95101c6b39322bd16d1342a20af1099b69d6b4', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (9, 1795387449.3667996, 'held', '1.2.4', 'cb4d629c71e77428de2ad58ecd95101c6b39322bd16d1342a20af1099b69d6b4', 'RECEIVED', 'it failed three times
Traceback');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (10, 1795387449.3695831, 'arrived', '1.2.5', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (11, 1795387449.3773394, 'settled', '1.2.5', '3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (12, 1795387449.3833175, 'synthesized', '1.2.5', '3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 'SYNTHESIZED', '2 instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (13, 1795387449.400061, 'taken', '1.2.5', '3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 'SYNTHESIZED', 'archive');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (14, 1795387449.410096, 'postponed', '1.2.5', '3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 'SYNTHESIZED', 'planning refuses 1');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (15, 1795387449.4131405, 'arrived', '1.2.6', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (16, 1795387449.4178755, 'settled', '1.2.6', '25bc725c50e5e54dfc007dbbc8a49dcd385b21c81351966869281a462a42851a', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (17, 1795387449.4229083, 'synthesized', '1.2.6', '25bc725c50e5e54dfc007dbbc8a49dcd385b21c81351966869281a462a42851a', 'SYNTHESIZED', '2 instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (18, 1795387449.425192, 'arrived', '1.2.7', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (19, 1795387449.4297006, 'settled', '1.2.7', '176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (20, 1795387449.4348955, 'synthesized', '1.2.7', '176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'SYNTHESIZED', '2 instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (21, 1795387449.444986, 'taken', '1.2.7', '176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'SYNTHESIZED', 'planning');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (22, 1795387449.4535685, 'taken', '1.2.7', '176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'SYNTHESIZED', 'archive');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (23, 1795387449.4559422, 'delivered', '1.2.7', '176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'DELIVERED', 'every destination has every instance');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (24, 1795387449.4579098, 'arrived', '1.2.8', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (25, 1795387449.462396, 'settled', '1.2.8', 'fd95c4d54dd9b5afb7f18cd3aa75d9b0959ab1921972dfebe2dff8a426af47bd', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (26, 1795387449.4725091, 'unsuitable', '1.2.8', 'fd95c4d54dd9b5afb7f18cd3aa75d9b0959ab1921972dfebe2dff8a426af47bd', 'REJECTED', 'a slice is missing');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (27, 1795387449.4790516, 'arrived', '1.2.9', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (28, 1795387449.4944384, 'settled', '1.2.9', '8c592cf0253947a90e89c1b3a7328cfa919b2be39f1b67b02129d8ce668fdece', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (29, 1795387449.4984255, 'unsuitable', '1.2.9', '8c592cf0253947a90e89c1b3a7328cfa919b2be39f1b67b02129d8ce668fdece', 'REJECTED', 'rule localizers ignores it');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (30, 1795387449.5042233, 'arrived', '1.2.10', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (31, 1795387449.5171297, 'settled', '1.2.10', '120bb40ec1953617df19a1d57059ccab4664151867ed54d6ae99fad5c818e5f3', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (32, 1795387449.5248246, 'held', '1.2.10', '120bb40ec1953617df19a1d57059ccab4664151867ed54d6ae99fad5c818e5f3', 'RECEIVED', 'it failed');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (33, 1795387449.532273, 'refused', '1.2.10', '120bb40ec1953617df19a1d57059ccab4664151867ed54d6ae99fad5c818e5f3', 'REJECTED', 'not wanted');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (34, 1795387449.5387669, 'arrived', '1.2.11', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (35, 1795387449.5501993, 'settled', '1.2.11', '48a2445679ce80982246db7c2064e47a273c71364695c2a83981d265ebbc1983', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (36, 1795387449.5565686, 'arrived', '1.2.11', NULL, 'RECEIVING', 'more instances after the series was taken');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (37, 1795387449.563294, 'superseded', '1.2.11', '48a2445679ce80982246db7c2064e47a273c71364695c2a83981d265ebbc1983', 'REJECTED', 'more instances of the series came; job 4465130f569e takes its place');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (38, 1795387449.5649204, 'settled', '1.2.11', '4465130f569e084b2ab0b82ebd70a83e55dc8caaae4303580e752de82b712b39', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (39, 1795387449.5687635, 'arrived', '1.2.12', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (40, 1795387449.5744352, 'settled', '1.2.12', 'e2d37954bd807b10825c3f5405a0c4a1cb0ba7da79e364044d202280ba7727b3', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (41, 1795387449.5807858, 'conflicted', '1.2.12', 'e2d37954bd807b10825c3f5405a0c4a1cb0ba7da79e364044d202280ba7727b3', 'RECEIVED', 'SOP instance 1.2.12.1 came again with different content; all are kept, and release takes --use first or --use last');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (42, 1795387449.5840237, 'arrived', '1.2.13', NULL, 'RECEIVING', 'first instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (43, 1795387449.5897057, 'settled', '1.2.13', '723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', 'RECEIVED', 'complete');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (44, 1795387449.593414, 'synthesized', '1.2.13', '723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', 'SYNTHESIZED', '2 instances');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (45, 1795387449.6028419, 'taken', '1.2.13', '723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', 'SYNTHESIZED', 'planning');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (46, 1795387449.6059215, 'arrived', '1.2.13', NULL, 'RECEIVING', 'more instances after the series was taken');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (47, 1795387449.6124623, 'replaced', '1.2.13', '723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', 'SYNTHESIZED', 'more instances of the series came; job bdba5e4f1e5a takes its place');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (48, 1795387449.6150672, 'delivered', '1.2.13', '723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', 'DELIVERED', 'every destination has every instance');
INSERT INTO events (id, at, fact, series_instance_uid, job, state, words)
    VALUES (49, 1795387449.616593, 'settled', '1.2.13', 'bdba5e4f1e5aff81ddb6112fe7b1180dbc04f3a4c4c2f678b0c35137ee981507', 'RECEIVED', 'complete');
INSERT INTO deliveries (job, destination, attempt, since, due_at, sentence, delivered_at, begun_at, withdrawn_at)
    VALUES ('3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 'planning', 2, 1795387449.3834999, 1795387509.4092155, 'planning refuses 1', NULL, 1795387449.4053197, NULL);
INSERT INTO deliveries (job, destination, attempt, since, due_at, sentence, delivered_at, begun_at, withdrawn_at)
    VALUES ('3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 'archive', 1, 1795387449.3834999, 1795387449.3834999, '', 1795387449.3972754, 1795387449.3890638, NULL);
INSERT INTO deliveries (job, destination, attempt, since, due_at, sentence, delivered_at, begun_at, withdrawn_at)
    VALUES ('25bc725c50e5e54dfc007dbbc8a49dcd385b21c81351966869281a462a42851a', 'planning', 1, 1795387449.4232075, 1795387449.4232075, '', NULL, NULL, NULL);
INSERT INTO deliveries (job, destination, attempt, since, due_at, sentence, delivered_at, begun_at, withdrawn_at)
    VALUES ('25bc725c50e5e54dfc007dbbc8a49dcd385b21c81351966869281a462a42851a', 'archive', 1, 1795387449.4232075, 1795387449.4232075, '', NULL, NULL, NULL);
INSERT INTO deliveries (job, destination, attempt, since, due_at, sentence, delivered_at, begun_at, withdrawn_at)
    VALUES ('176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'planning', 1, 1795387449.4350345, 1795387449.4350345, '', 1795387449.4445398, 1795387449.4394076, NULL);
INSERT INTO deliveries (job, destination, attempt, since, due_at, sentence, delivered_at, begun_at, withdrawn_at)
    VALUES ('176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'archive', 1, 1795387449.4350345, 1795387449.4350345, '', 1795387449.4531748, 1795387449.4478805, NULL);
INSERT INTO deliveries (job, destination, attempt, since, due_at, sentence, delivered_at, begun_at, withdrawn_at)
    VALUES ('723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', 'planning', 1, 1795387449.5935524, 1795387449.5935524, '', 1795387449.6024423, 1795387449.5971992, NULL);
INSERT INTO deliveries (job, destination, attempt, since, due_at, sentence, delivered_at, begun_at, withdrawn_at)
    VALUES ('723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', 'archive', 1, 1795387449.5935524, 1795387449.5935524, '', NULL, NULL, 1795387449.612697);
INSERT INTO receipts (job, destination, sop_instance_uid, status, taken, warning, comment, at)
    VALUES ('3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 'archive', '2.25.5.1', 0, 1, 0, '', 1795387449.391752);
INSERT INTO receipts (job, destination, sop_instance_uid, status, taken, warning, comment, at)
    VALUES ('3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 'archive', '2.25.5.2', 0, 1, 0, '', 1795387449.391763);
INSERT INTO receipts (job, destination, sop_instance_uid, status, taken, warning, comment, at)
    VALUES ('3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 'planning', '2.25.5.1', 0, 1, 0, '', 1795387449.405927);
INSERT INTO receipts (job, destination, sop_instance_uid, status, taken, warning, comment, at)
    VALUES ('3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca', 'planning', '2.25.5.2', 42752, 0, 0, '', 1795387449.405934);
INSERT INTO receipts (job, destination, sop_instance_uid, status, taken, warning, comment, at)
    VALUES ('176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'planning', '2.25.7.1', 0, 1, 0, '', 1795387449.439914);
INSERT INTO receipts (job, destination, sop_instance_uid, status, taken, warning, comment, at)
    VALUES ('176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'planning', '2.25.7.2', 45056, 1, 1, '', 1795387449.439923);
INSERT INTO receipts (job, destination, sop_instance_uid, status, taken, warning, comment, at)
    VALUES ('176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'archive', '2.25.7.1', 0, 1, 0, '', 1795387449.449704);
INSERT INTO receipts (job, destination, sop_instance_uid, status, taken, warning, comment, at)
    VALUES ('176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec', 'archive', '2.25.7.2', 45056, 1, 1, '', 1795387449.449711);
INSERT INTO receipts (job, destination, sop_instance_uid, status, taken, warning, comment, at)
    VALUES ('723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', 'planning', '2.25.13.1', 0, 1, 0, '', 1795387449.598879);
INSERT INTO receipts (job, destination, sop_instance_uid, status, taken, warning, comment, at)
    VALUES ('723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8', 'planning', '2.25.13.2', 0, 1, 0, '', 1795387449.598889);
INSERT INTO commitments (requestor, transaction_uid, listed, failed, attempt, asked_at, due_at, ended_at, sentence)
    VALUES ('MR1', '2.25.771', '{"1.2.2.1": "1.2.840.10008.5.1.4.1.1.4"}', NULL, 1, 1795387449.622358, 1795387451.122358, NULL, '');
INSERT INTO commitments (requestor, transaction_uid, listed, failed, attempt, asked_at, due_at, ended_at, sentence)
    VALUES ('MR1', '2.25.772', '{"1.2.2.2": "1.2.840.10008.5.1.4.1.1.4"}', '{}', 1, 1795387449.6313343, 1795387451.1313343, 1795387449.6355507, '');
INSERT INTO workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, attributes, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:c5206460bfbc3d82eb06655f2a58671d5b140d8d166a535b41e88a9cb1f7d227:1', 'ENQUEUED', 'synthesize', 1795387449000, 1795387449000, '1', 0, 'synthesize', 0, 'portable_json', 0, 0, 'null', 0, 'sct-node', 'b8056535-5d7f-4a8b-adec-16dbbbe73154');
INSERT INTO workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, attributes, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:b5106a90a57e75c523b2ce9bb1540f30f7bc6b196074fdbcb0985610605dd0eb:1', 'ENQUEUED', 'synthesize', 1795387449000, 1795387449000, '1', 0, 'synthesize', 0, 'portable_json', 0, 0, 'null', 0, 'sct-node', 'f8fea535-d853-42f7-8936-59f454b1c480');
INSERT INTO workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, delay_until_epoch_ms, was_forked_from, rate_limited, attributes, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:b5106a90a57e75c523b2ce9bb1540f30f7bc6b196074fdbcb0985610605dd0eb:2', 'DELAYED', 'synthesize', 1795387449000, 1795387449000, '1', 0, 'synthesize', 0, 'portable_json', 1795387509339, 0, 0, 'null', 0, 'sct-node', '67d8f8c1-d14c-4d74-98ca-7efd902eeae3');
INSERT INTO workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, attributes, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:cb4d629c71e77428de2ad58ecd95101c6b39322bd16d1342a20af1099b69d6b4:1', 'ENQUEUED', 'synthesize', 1795387449000, 1795387449000, '1', 0, 'synthesize', 0, 'portable_json', 0, 0, 'null', 0, 'sct-node', '748c2af8-fa88-40a0-9fb8-62ba7e370f85');
INSERT INTO workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, attributes, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca:1', 'ENQUEUED', 'synthesize', 1795387449000, 1795387449000, '1', 0, 'synthesize', 0, 'portable_json', 0, 0, 'null', 0, 'sct-node', '1b6a61a5-9b2a-4a20-b529-46746c1f200e');
INSERT INTO workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, queue_partition_key, serialization, was_forked_from, rate_limited, attributes, is_debounced, application_name, creator_xid)
    VALUES ('deliver:3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca:planning:1', 'ENQUEUED', 'deliver', 1795387449000, 1795387449000, '1', 0, 'deliver', 0, 'planning', 'portable_json', 0, 0, 'null', 0, 'sct-node', '2c3f9fd2-b270-44e5-beab-ce94a81509b2');
INSERT INTO workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, queue_partition_key, serialization, was_forked_from, rate_limited, attributes, is_debounced, application_name, creator_xid)
    VALUES ('deliver:3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca:archive:1', 'ENQUEUED', 'deliver', 1795387449000, 1795387449000, '1', 0, 'deliver', 0, 'archive', 'portable_json', 0, 0, 'null', 0, 'sct-node', '543c6134-ac34-4dc8-bb0a-8b80ba70d842');
INSERT INTO workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, queue_partition_key, serialization, delay_until_epoch_ms, was_forked_from, rate_limited, attributes, is_debounced, application_name, creator_xid)
    VALUES ('deliver:3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca:planning:2', 'DELAYED', 'deliver', 1795387449000, 1795387449000, '1', 0, 'deliver', 0, 'planning', 'portable_json', 1795387509411, 0, 0, 'null', 0, 'sct-node', '5b82896c-cad1-4a70-856f-5cb798b363f9');
INSERT INTO workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, attributes, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:25bc725c50e5e54dfc007dbbc8a49dcd385b21c81351966869281a462a42851a:1', 'ENQUEUED', 'synthesize', 1795387449000, 1795387449000, '1', 0, 'synthesize', 0, 'portable_json', 0, 0, 'null', 0, 'sct-node', '4cd6726e-ab17-418b-a14e-0b87dcd0d1f7');
INSERT INTO workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, attributes, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec:1', 'ENQUEUED', 'synthesize', 1795387449000, 1795387449000, '1', 0, 'synthesize', 0, 'portable_json', 0, 0, 'null', 0, 'sct-node', '610c6725-e025-48f1-996e-ba779656567e');
INSERT INTO workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, queue_partition_key, serialization, was_forked_from, rate_limited, attributes, is_debounced, application_name, creator_xid)
    VALUES ('deliver:176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec:planning:1', 'ENQUEUED', 'deliver', 1795387449000, 1795387449000, '1', 0, 'deliver', 0, 'planning', 'portable_json', 0, 0, 'null', 0, 'sct-node', 'a2662cbd-5299-436e-8e31-1c28896490a1');
INSERT INTO workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, queue_partition_key, serialization, was_forked_from, rate_limited, attributes, is_debounced, application_name, creator_xid)
    VALUES ('deliver:176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec:archive:1', 'ENQUEUED', 'deliver', 1795387449000, 1795387449000, '1', 0, 'deliver', 0, 'archive', 'portable_json', 0, 0, 'null', 0, 'sct-node', '0c4cd899-951f-417a-b558-b104bcbee92e');
INSERT INTO workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, attributes, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:fd95c4d54dd9b5afb7f18cd3aa75d9b0959ab1921972dfebe2dff8a426af47bd:1', 'ENQUEUED', 'synthesize', 1795387449000, 1795387449000, '1', 0, 'synthesize', 0, 'portable_json', 0, 0, 'null', 0, 'sct-node', 'f82612e5-2ec2-4bdc-a266-644102432c0f');
INSERT INTO workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, attributes, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:120bb40ec1953617df19a1d57059ccab4664151867ed54d6ae99fad5c818e5f3:1', 'ENQUEUED', 'synthesize', 1795387449000, 1795387449000, '1', 0, 'synthesize', 0, 'portable_json', 0, 0, 'null', 0, 'sct-node', '35c75a4f-6536-4212-b6dc-90dc93f6fa9c');
INSERT INTO workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, attributes, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:48a2445679ce80982246db7c2064e47a273c71364695c2a83981d265ebbc1983:1', 'ENQUEUED', 'synthesize', 1795387449000, 1795387449000, '1', 0, 'synthesize', 0, 'portable_json', 0, 0, 'null', 0, 'sct-node', '372fd92f-72ef-42a7-b687-44be2ffd2721');
INSERT INTO workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, attributes, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:4465130f569e084b2ab0b82ebd70a83e55dc8caaae4303580e752de82b712b39:1', 'ENQUEUED', 'synthesize', 1795387449000, 1795387449000, '1', 0, 'synthesize', 0, 'portable_json', 0, 0, 'null', 0, 'sct-node', '9bebf714-95aa-41d0-be75-abc59f89e07e');
INSERT INTO workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, attributes, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:e2d37954bd807b10825c3f5405a0c4a1cb0ba7da79e364044d202280ba7727b3:1', 'ENQUEUED', 'synthesize', 1795387449000, 1795387449000, '1', 0, 'synthesize', 0, 'portable_json', 0, 0, 'null', 0, 'sct-node', '0592a0dd-9dc0-48c9-8493-29a9ab13a4b5');
INSERT INTO workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, attributes, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8:1', 'ENQUEUED', 'synthesize', 1795387449000, 1795387449000, '1', 0, 'synthesize', 0, 'portable_json', 0, 0, 'null', 0, 'sct-node', '6cddcff7-17b9-45f1-aea1-2401e25cfa0a');
INSERT INTO workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, queue_partition_key, serialization, was_forked_from, rate_limited, attributes, is_debounced, application_name, creator_xid)
    VALUES ('deliver:723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8:planning:1', 'ENQUEUED', 'deliver', 1795387449000, 1795387449000, '1', 0, 'deliver', 0, 'planning', 'portable_json', 0, 0, 'null', 0, 'sct-node', '6e09b357-decb-401b-8a5a-1fac254de904');
INSERT INTO workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, queue_partition_key, serialization, was_forked_from, rate_limited, attributes, is_debounced, application_name, creator_xid)
    VALUES ('deliver:723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8:archive:1', 'ENQUEUED', 'deliver', 1795387449000, 1795387449000, '1', 0, 'deliver', 0, 'archive', 'portable_json', 0, 0, 'null', 0, 'sct-node', '1ae06049-79c4-4521-8a78-d01cc1e9e7ba');
INSERT INTO workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, recovery_attempts, queue_name, priority, serialization, was_forked_from, rate_limited, attributes, is_debounced, application_name, creator_xid)
    VALUES ('synthesize:bdba5e4f1e5aff81ddb6112fe7b1180dbc04f3a4c4c2f678b0c35137ee981507:1', 'ENQUEUED', 'synthesize', 1795387449000, 1795387449000, '1', 0, 'synthesize', 0, 'portable_json', 0, 0, 'null', 0, 'sct-node', 'a08d6761-22ed-458e-a343-01b7a8c2b085');
INSERT INTO workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:c5206460bfbc3d82eb06655f2a58671d5b140d8d166a535b41e88a9cb1f7d227:1', '{"namedArgs":{},"positionalArgs":["c5206460bfbc3d82eb06655f2a58671d5b140d8d166a535b41e88a9cb1f7d227",1]}', 1795387449000);
INSERT INTO workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:b5106a90a57e75c523b2ce9bb1540f30f7bc6b196074fdbcb0985610605dd0eb:1', '{"namedArgs":{},"positionalArgs":["b5106a90a57e75c523b2ce9bb1540f30f7bc6b196074fdbcb0985610605dd0eb",1]}', 1795387449000);
INSERT INTO workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:b5106a90a57e75c523b2ce9bb1540f30f7bc6b196074fdbcb0985610605dd0eb:2', '{"namedArgs":{},"positionalArgs":["b5106a90a57e75c523b2ce9bb1540f30f7bc6b196074fdbcb0985610605dd0eb",2]}', 1795387449000);
INSERT INTO workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:cb4d629c71e77428de2ad58ecd95101c6b39322bd16d1342a20af1099b69d6b4:1', '{"namedArgs":{},"positionalArgs":["cb4d629c71e77428de2ad58ecd95101c6b39322bd16d1342a20af1099b69d6b4",1]}', 1795387449000);
INSERT INTO workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca:1', '{"namedArgs":{},"positionalArgs":["3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca",1]}', 1795387449000);
INSERT INTO workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('deliver:3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca:planning:1', '{"namedArgs":{},"positionalArgs":["3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca","planning",1]}', 1795387449000);
INSERT INTO workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('deliver:3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca:archive:1', '{"namedArgs":{},"positionalArgs":["3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca","archive",1]}', 1795387449000);
INSERT INTO workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('deliver:3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca:planning:2', '{"namedArgs":{},"positionalArgs":["3b393a5811945603eb5ccb3c7013ac57b2c0d24ee89496b0be8632fc5cc447ca","planning",2]}', 1795387449000);
INSERT INTO workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:25bc725c50e5e54dfc007dbbc8a49dcd385b21c81351966869281a462a42851a:1', '{"namedArgs":{},"positionalArgs":["25bc725c50e5e54dfc007dbbc8a49dcd385b21c81351966869281a462a42851a",1]}', 1795387449000);
INSERT INTO workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec:1', '{"namedArgs":{},"positionalArgs":["176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec",1]}', 1795387449000);
INSERT INTO workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('deliver:176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec:planning:1', '{"namedArgs":{},"positionalArgs":["176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec","planning",1]}', 1795387449000);
INSERT INTO workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('deliver:176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec:archive:1', '{"namedArgs":{},"positionalArgs":["176e9367a95183d4b4d902e299415c4c3646b5d6ef1b362cb49d3f73c203a8ec","archive",1]}', 1795387449000);
INSERT INTO workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:fd95c4d54dd9b5afb7f18cd3aa75d9b0959ab1921972dfebe2dff8a426af47bd:1', '{"namedArgs":{},"positionalArgs":["fd95c4d54dd9b5afb7f18cd3aa75d9b0959ab1921972dfebe2dff8a426af47bd",1]}', 1795387449000);
INSERT INTO workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:120bb40ec1953617df19a1d57059ccab4664151867ed54d6ae99fad5c818e5f3:1', '{"namedArgs":{},"positionalArgs":["120bb40ec1953617df19a1d57059ccab4664151867ed54d6ae99fad5c818e5f3",1]}', 1795387449000);
INSERT INTO workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:48a2445679ce80982246db7c2064e47a273c71364695c2a83981d265ebbc1983:1', '{"namedArgs":{},"positionalArgs":["48a2445679ce80982246db7c2064e47a273c71364695c2a83981d265ebbc1983",1]}', 1795387449000);
INSERT INTO workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:4465130f569e084b2ab0b82ebd70a83e55dc8caaae4303580e752de82b712b39:1', '{"namedArgs":{},"positionalArgs":["4465130f569e084b2ab0b82ebd70a83e55dc8caaae4303580e752de82b712b39",1]}', 1795387449000);
INSERT INTO workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:e2d37954bd807b10825c3f5405a0c4a1cb0ba7da79e364044d202280ba7727b3:1', '{"namedArgs":{},"positionalArgs":["e2d37954bd807b10825c3f5405a0c4a1cb0ba7da79e364044d202280ba7727b3",1]}', 1795387449000);
INSERT INTO workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8:1', '{"namedArgs":{},"positionalArgs":["723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8",1]}', 1795387449000);
INSERT INTO workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('deliver:723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8:planning:1', '{"namedArgs":{},"positionalArgs":["723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8","planning",1]}', 1795387449000);
INSERT INTO workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('deliver:723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8:archive:1', '{"namedArgs":{},"positionalArgs":["723242d1bc3bebf26925f84a5307034ffad7ca8f9ce1718ce06ac40b83a6eee8","archive",1]}', 1795387449000);
INSERT INTO workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES ('synthesize:bdba5e4f1e5aff81ddb6112fe7b1180dbc04f3a4c4c2f678b0c35137ee981507:1', '{"namedArgs":{},"positionalArgs":["bdba5e4f1e5aff81ddb6112fe7b1180dbc04f3a4c4c2f678b0c35137ee981507",1]}', 1795387449000);
