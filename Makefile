# The goals a person or CI runs; what each does is in scripts/.

.DEFAULT_GOAL := help
.PHONY: help run test lint conformance e2e fuzz

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-26s %s\n", $$1, $$2 }'

run: ## Start a network, a sample upstream and an agent; send a request through the tunnel (UPSTREAM=URL, JSON=1)
	@scripts/quickstart.sh

test: ## Run everything that must hold: lints, tests, end-to-end tests, licences, advisories
	@scripts/test.sh

lint: ## Check format, lints, licences and advisories
	@scripts/install-tools.sh lint
	@scripts/lint.sh

e2e: ## Run the end-to-end tests alone (ARGS="-k psql")
	@scripts/install-tools.sh test
	@scripts/e2e.sh $(ARGS)

fuzz: ## Fuzz each target for 20 s (TARGET=session HOURS=2)
	@scripts/install-tools.sh fuzz
	@scripts/fuzz.sh $(or $(TARGET),all) $(if $(HOURS),$$(awk 'BEGIN { print int($(HOURS) * 3600) }'))

.PHONY: oracle
oracle: ## Compare expressions of a policy with what another implementation of the language says (CASES=100000 SEED=7)
	@cargo run -q --locked --manifest-path policy/oracle/Cargo.toml --target-dir target/oracle -- $(or $(CASES),10000) $(or $(SEED),1)

.PHONY: breakages
breakages: ## Break each clause on purpose, in a copy, and demand that what shows it fails (ARGS=10, ARGS="RES-002 GO-008")
	@conformance/breakages/run.py $(ARGS)

.PHONY: simulate storm shuttle mutants
simulate: ## Run simulated worlds (SEEDS=1000000 FROM=0; one again: SEED=7 TRACE=1)
	@scripts/simulate.sh

storm: ## Let 100,000 simulated agents lose their node at once (AGENTS=100000 AWAY=5)
	@scripts/simulate.sh storm

conformance: ## Hold any implementation to the specification (ARGS="--role agent --shim 'python3 my_agent.py'")
	@cargo build -q --locked -p adit-conformance --features program --bin adit-conformance
	@target/debug/adit-conformance $(ARGS)

shuttle: ## Try interleavings of the driver and its applications (SCHEDULES=10000)
	@scripts/shuttle.sh

mutants: ## Change the core in small ways and list what no test notices (ARGS="--minutes 30 --files 'core/src/session/*'")
	@scripts/install-tools.sh mutants
	@scripts/mutants.sh $(ARGS)

.PHONY: faults
faults: ## Make faults on real sockets and measure what comes of them, as root (ARGS="--only black-hole --times 20", "--json FILE")
	@scripts/install-tools.sh bench
	@cargo build -q --release --locked -p adit-network -p adit -p adit-benches --bin adit-network --bin adit --bin bench-link --bin bench-crowd
	@python3 tests/faults/measure.py $(ARGS)

.PHONY: semver
semver: ## Compare the public API of the crates with what it was (REV=v0.1.0, else HEAD), and say what breaks who builds on them
	@scripts/install-tools.sh semver
	@scripts/semver.sh $(REV)

.PHONY: bench bench-core bench-goals bench-allocations bench-instructions bench-instructions-update bench-distance bench-tunnel bench-edge bench-routing bench-policy
bench: bench-core bench-goals bench-distance bench-tunnel bench-routing bench-policy bench-edge ## Run all benchmarks

bench-core: ## Measure frames and sessions beside h2 and yamux (ARGS="memory/bulk")
	@cargo bench -q --locked -p adit-benches --bench frame --bench memory --bench loopback -- $(ARGS)

bench-policy: ## Print what policies of 1, 10 and 100 rules cost a request, and a list of 100,000 networks an address (ARGS="--check")
	@cargo build -q --release --locked -p adit-benches --bin bench-policy
	@target/release/bench-policy $(ARGS)

bench-goals: ## Print each figure that the core is held to, its reference in the same run, and whether it is met (ARGS="--json FILE")
	@cargo build -q --release --locked -p adit-benches --bin bench-goals --bin bench-allocations --features quic
	@target/release/bench-goals $(ARGS)

bench-allocations: ## Count what idle sessions and streams hold, and what each frame allocates (ARGS=--check)
	@cargo build -q --release --locked -p adit-benches --bin bench-allocations
	@target/release/bench-allocations $(ARGS)

bench-distance: ## Measure the tunnel beside no tunnel over a path of 100 ms, as root (ARGS="--only loss")
	@scripts/install-tools.sh bench
	@cargo build -q --release --locked -p adit-network -p adit -p adit-benches --bin adit-network --bin adit --bin bench-link
	@python3 benches/distance/measure.py $(ARGS)

bench-instructions: ## Count instructions by valgrind and compare them with those committed, within 2 %
	@scripts/install-tools.sh instructions
	@scripts/instructions.sh compare

bench-instructions-update: ## Count instructions and write them to benches/instructions.json, to be committed
	@scripts/install-tools.sh instructions
	@scripts/instructions.sh update

bench-tunnel: ## Measure the tunnel beside no tunnel and two HAProxy (ARGS="--json FILE")
	@scripts/install-tools.sh bench
	@cargo build -q --release --locked -p adit-network -p adit -p adit-benches
	@target/release/bench-tunnel $(ARGS)

bench-edge: ## Measure the edge beside nginx and Caddy: requests and handshakes a second (ARGS="--only handshakes", "--json FILE")
	@scripts/install-tools.sh bench
	@cargo build -q --release --locked -p adit-network -p adit --bin adit-network --bin adit
	@python3 benches/edge/measure.py $(ARGS)

bench-routing: ## Measure how long it takes to find an endpoint among 10 and among 10,000
	@cargo bench -q --locked -p adit-network --bench routing

.PHONY: elsewhere
elsewhere: ## Check that the agent is well typed for Windows and macOS too; nothing is linked or run there
	@scripts/elsewhere.sh

.PHONY: dist deb image sbom sizes chart
dist: ## Build both programs as they are handed out: static, one file each, in target/TARGET/dist (PROGRAMS=adit)
	@scripts/install-tools.sh dist
	@packaging/dist.sh $(or $(PROGRAMS),adit adit-network)

sbom: ## Write what each program is made of, as CycloneDX, to target/package (PROGRAMS=adit)
	@mkdir -p target/package
	@for program in $(or $(PROGRAMS),adit adit-network); do packaging/sbom.py $$program >target/package/$$program.cdx.json && echo target/package/$$program.cdx.json; done

deb: dist sbom ## Make Debian packages of both, hold them to lintian, and install and purge them in a copy of this system, as root
	@for program in $(or $(PROGRAMS),adit adit-network); do packaging/deb.sh $$program || exit 1; done
	@packaging/check-deb.sh target/package/*.deb

image: dist ## Build images of both, from nothing, as files for `docker load`, and load and run them
	@for program in $(or $(PROGRAMS),adit adit-network); do packaging/image.sh $$program && packaging/try-image.sh $$program || exit 1; done

sizes: dist ## Print what the programs take on disk and in memory, and demand the goals
	@packaging/sizes.py --check

chart: ## Render the Helm chart by Helm's own engine and hold it to Kubernetes' schemas
	@scripts/install-tools.sh chart
	@target/venv-chart/bin/python packaging/helm/check.py
