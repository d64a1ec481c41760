# Two commands: `make demo` and `make test`. Each does all its set-up, as root or not, in a venv of its own (.venv).
#
#   make demo INPUT=folder    the demo with your own MR series
#   make test ARGS="-k ..."   pytest arguments; TEST_WORKERS=0 runs one test at a time
#   make fuzz ARGS="--count 1000 --seed 2"    malformed PDUs and DIMSE messages at a running node (100,000; half an hour)
#   make faults               500 random SIGKILLs, outages, crashes of the database, power failures (half an hour and more)
#   make soak                 10,000 associations, 10,000 bare connects, 100,000 instances; the samples in build/soak.csv
#   make sensitivity          which damaged MR are held, and what each finding tells of the true error (SCT_DATA; an hour)
#   make senders              eight senders at once while the node computes: how long an answer takes, beside dcmtk's
#   make cross-validation FOLDS=5 MINUTES=60   every method on every fold, each as long; an interrupted one goes on
#   make ablation             what each choice of the LDM is worth, one thing changed at a time (hours); the validation
#                             patients have no part in it
#   make baselines            train the paper's other methods: nnU-Net, SwinUNETR, Pix2Pix, CycleGAN (hours)
#   make evaluation           models/README.md's tables of the models, on the three validation patients (half an hour)
#   make lint, make types, make wheel, make clean
#   make dose-env             what `sct-node dose` needs, in a venv of its own (.venv-dose)
#   make dose-test            the tests that need it

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
DOSE_VENV ?= .venv-dose
# Test files at once. Many tests wait (for a time-out, a restart, a peer) rather than compute.
TEST_WORKERS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := $(shell find dicomnode pipeline models config -type f ! -path '*/__pycache__/*')

# torch comes first and alone. Without an NVIDIA GPU its CPU build, "+cpu", is asked for: the other one brings several
# gigabytes of CUDA libraries. PyPI has no CPU build for x86 Linux, an index of yours may:
#   make demo TORCH_INDEX=https://...
# Where no index has it, the plain one is installed; it works on the CPU as well.
TORCH_VERSION ?= 2.13.0
TORCH_INDEX ?=
TORCH_FROM := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.DELETE_ON_ERROR:
.PHONY: demo test fuzz faults blackout soak sensitivity baselines evaluation cross-validation ablation senders lint types wheel clean dose-env dose-test

demo: $(VENV)/installed
	$(BIN)/sct-node demo $(if $(INPUT),--input "$(INPUT)")

# The installed wheel is tested: PYTHONSAFEPATH keeps the source folder off the path, of pytest and of what it starts.
# One thread each: with more, workers wait for each other, and a tiny training takes minutes where a core is taken away.
test: $(VENV)/installed $(VENV)/test-tools
	PYTHONSAFEPATH=1 SCT_TEST_INSTALLED=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile $(ARGS)

CAMPAIGNS := sqlite-forked-170 postgresql-forked-170 sqlite-serve-80 postgresql-serve-80
SEED ?= 4
TRY := PYTHONSAFEPATH=1 PYTHONPATH=tests/faults OMP_NUM_THREADS=1 $(BIN)/python tests/faults

faults: $(CAMPAIGNS:%=campaign-%) blackout

campaign-%: $(VENV)/installed $(VENV)/test-tools
	$(TRY)/campaign.py --seed $(SEED) --database $(word 1,$(subst -, ,$*)) --start $(word 2,$(subst -, ,$*)) \
	    --kills $(word 3,$(subst -, ,$*))

blackout: $(VENV)/installed $(VENV)/test-tools
	$(TRY)/blackout.py --seed $(SEED) $(ARGS)

soak: $(VENV)/installed $(VENV)/test-tools
	$(TRY)/soak.py --csv build/soak.csv $(ARGS)

sensitivity: $(VENV)/installed $(VENV)/test-tools
	PYTHONSAFEPATH=1 $(BIN)/python tests/studies/sensitivity.py --pairs $(SCT_DATA)/pairs/train --out build/sensitivity $(ARGS)

# The table of an evaluation in build/$(1) goes into models/README.md, between two comments of its name.
in_readme = sed -i -e '/^<!-- $(1) -->/,/^<!-- end of $(1) -->/{//!d}' -e '/^<!-- $(1) -->/r build/$(1)/short.md' models/README.md

# The paper's other methods by their recipes; the weights come to runs/limb-t1-METHOD/model.
BASELINES ?= nnunet swinunetr pix2pix cyclegan

baselines: $(BASELINES:%=baseline-%)

baseline-%: $(VENV)/installed
	$(BIN)/sct-node train config/train/limb-t1-$*.yaml

# The three patients of which no choice may know.
KEPT_BACK := STS_013,STS_026,STS_048
# What is measured for models/README.md: the limb models of the wheel, of the repository and of `make baselines`, and the baselines; or
# others as `sct-node evaluate` takes them.
EVALUATED ?= $(basename $(notdir $(wildcard models/shipped/limb-*.json))) $(wildcard models/unshipped/limb-*) \
    $(foreach one,$(BASELINES),$(patsubst %,limb-t1-$(one)-trained=%,$(wildcard runs/limb-t1-$(one)/model))) \
    look-up-table all-water

evaluation: $(VENV)/installed
	$(BIN)/sct-node evaluate $(EVALUATED) --pairs $(or $(SCT_DATA),../shared/data)/pairs/train \
	    --patients $(KEPT_BACK) --out build/evaluation
	$(BIN)/sct-node evaluate limb-t1-ldm --pairs $(or $(SCT_DATA),../shared/data)/pairs/train --pictures 0 \
	    --patients $(KEPT_BACK) --sampling 1x1,2x1,4x1,20x1,1x4,4x4 --out build/sampling
	cp build/evaluation/evaluation.json models/measured/evaluation.json
	{ cat build/evaluation/tables.md && echo && sed -n '/^## By sampler/,/^$$/p;/^## By sampler/,/^## Error/{/^|/p}' \
	    build/sampling/tables.md; } > models/measured/evaluation.md
	$(call in_readme,evaluation)
	$(BIN)/sct-node evaluate $(EVALUATED) --pairs $(or $(SCT_DATA),../shared/data)/pairs2/train --pictures 0 \
	    --patients $(KEPT_BACK) --out build/evaluation-deformed
	cp build/evaluation-deformed/evaluation.json models/measured/evaluation-deformed.json
	cp build/evaluation-deformed/tables.md models/measured/evaluation-deformed.md
	$(call in_readme,evaluation-deformed)

# MINUTES are the processor's, of one training: six methods and five folds of 60 take 30 hours of it. A method named
# METHOD-quadratic has the LDM's loss: what of the LDM's lead is no more than that.
METHODS ?= ldm nnunet nnunet-quadratic swinunetr pix2pix cyclegan
QUADRATIC := --set losses.quadratic=0.5
FOLDS ?= 5
MINUTES ?= 60
CROSSED := $(foreach method,$(METHODS),$(method)=runs/limb-t1-$(method)/$(MINUTES)-minutes/folds-of-$(FOLDS).yaml)

cross-validation: $(VENV)/installed
	for fold in $$(seq $(FOLDS)); do for method in $(METHODS); do \
	    $(BIN)/sct-node train config/train/limb-t1-$${method%-quadratic}.yaml --fold $$fold/$(FOLDS) --minutes $(MINUTES) \
	        --set run=runs/limb-t1-$$method $$(case $$method in *-quadratic) echo "$(QUADRATIC)";; esac) || exit; \
	done; done
	$(BIN)/sct-node evaluate $(CROSSED) look-up-table all-water --pairs $(or $(SCT_DATA),../shared/data)/pairs/train \
	    --out build/cross-validation
	cp build/cross-validation/tables.md models/measured/cross-validation.md
	cp build/cross-validation/evaluation.json models/measured/cross-validation.json
	$(call in_readme,cross-validation)

# What each choice of limb-t1-ldm's recipe is worth: one thing changed at a time, ABLATION_MINUTES of all stages each. What
# is chosen by it must not have seen the validation patients: they are left out, and four that train elsewhere are measured.
ABLATION_MINUTES ?= 20
UNTRAINED := STS_006,STS_022,STS_035,STS_043
SET_another-seed := seed=1
SET_detail := architecture.detail=true
SET_bridge := architecture.conditioning=bridge architecture.mr_features=4
SET_velocity := architecture.prediction=velocity
SET_v-ddim := architecture.prediction=v architecture.schedule=ddim
SET_epsilon-ddim := architecture.prediction=epsilon architecture.schedule=ddim
SET_no-quadratic := losses.quadratic=0
SET_flow := losses.flow=1
SET_denoiser-first := stages.denoiser.steps=900 stages.denoiser.share=0.35
SET_larger := architecture.autoencoder.channels=[32,48] architecture.mr_channels=[32,48] \
    architecture.denoiser_channels=[48,64,80]
SET_no-bone-weight := losses.bone=0
SET_no-contrast := stages.joint.contrast=0
SET_deformation := stages.joint.deformation=1
SET_acquisition := stages.joint.acquisition=0.5
ABLATED ?= recipe $(patsubst SET_%,%,$(sort $(filter SET_%,$(.VARIABLES))))

ablation: $(ABLATED:%=ablation-%)
	$(BIN)/sct-node evaluate $(foreach one,$(ABLATED),$(one)=runs/ablation/$(one)/$(ABLATION_MINUTES)-minutes/model) \
	    look-up-table --pairs $(or $(SCT_DATA),../shared/data)/pairs/train --patients $(UNTRAINED) --pictures 0 \
	    --out build/ablation
	cp build/ablation/tables.md models/measured/ablation.md

ablation-%: $(VENV)/installed
	$(BIN)/sct-node train config/train/limb-t1-ldm.yaml --minutes $(ABLATION_MINUTES) --set run=runs/ablation/$* \
	    --set left_out=[$(KEPT_BACK)] --set validation=[$(UNTRAINED)] \
	    --set evaluate=[] --set milestones=[] --set uncertainty=null $(SET_$*:%=--set %)

senders: $(VENV)/installed $(VENV)/test-tools
	$(TRY)/senders.py $(ARGS)

fuzz: $(VENV)/installed $(VENV)/test-tools
	PYTHONSAFEPATH=1 PYTHONPATH=tests/fuzz $(BIN)/python tests/fuzz/attack.py build/fuzz $(ARGS)

lint: $(VENV)/lint-tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/hadolint deploy/Dockerfile

types: $(VENV)/installed $(VENV)/lint-tools $(VENV)/test-tools
	$(BIN)/mypy

wheel: $(VENV)/wheel
	@ls dist/*.whl

dose-env: $(DOSE_VENV)/installed

dose-test: $(VENV)/installed $(VENV)/test-tools $(DOSE_VENV)/installed
	PYTHONSAFEPATH=1 SCT_TEST_INSTALLED=1 SCT_DOSE_PYTHON=$(abspath $(DOSE_VENV))/bin/python \
	    $(BIN)/python -m pytest -m dose -o timeout=1800 $(ARGS)

clean:
	rm -rf $(VENV) $(DOSE_VENV) dist build dicomnode/web/static/niivue.*

$(VENV)/venv:
	@test -n "$(PYTHON)" || { echo "sct-node needs Python 3.11 or later; say which with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed; on Debian: apt-get install python3-venv"; exit 1; }
	touch $@

$(VENV)/torch: | $(VENV)/venv
	@if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then \
	    $(PIP) install $(TORCH_FROM) torch==$(TORCH_VERSION); \
	else \
	    $(PIP) install $(TORCH_FROM) torch==$(TORCH_VERSION)+cpu \
	    || { echo "No CPU build of torch in the indexes that pip knows; installing the plain one (large)."; \
	         $(PIP) install torch==$(TORCH_VERSION); }; \
	fi
	touch $@

$(VENV)/wheel: $(SOURCES) pyproject.toml hatch_build.py README.md LICENSE LICENSE-WEIGHTS | $(VENV)/venv
	rm -rf dist/*.whl
	$(PIP) wheel --quiet --no-deps --wheel-dir dist .
	touch $@

# The requirements when pyproject.toml changes, the package itself whenever a source does.
$(VENV)/requirements: pyproject.toml $(VENV)/torch | $(VENV)/wheel
	$(PIP) install dist/*.whl
	touch $@

$(VENV)/installed: $(VENV)/wheel $(VENV)/requirements
	$(PIP) install --quiet --no-deps --force-reinstall dist/*.whl
	touch $@

$(VENV)/test-tools: pyproject.toml $(VENV)/requirements
	$(PIP) install "$$(echo dist/*.whl)[test]"
	touch $@

$(VENV)/lint-tools: pyproject.toml $(VENV)/torch | $(VENV)/wheel
	$(PIP) install "$$(echo dist/*.whl)[lint]"
	touch $@

$(DOSE_VENV)/installed: deploy/dose-requirements.txt
	@test -n "$(PYTHON)" || { echo "sct-node needs Python 3.11 or later; say which with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(DOSE_VENV)
	$(DOSE_VENV)/bin/python -m pip --disable-pip-version-check install -r deploy/dose-requirements.txt
	touch $@
