"""Renders the chart by Helm's own engine, holds what comes out to Kubernetes' schemas, and looks at what a cluster's owner would look at."""

import pathlib
import sys

import helm_python
import kubernetes_validate
import yaml

CHART = pathlib.Path(__file__).parent / "adit"
KUBERNETES = ["1.28", "1.37"]
ENDPOINT = {"name": "crm", "url": "https://acme.vendor.example", "upstream": {"url": "http://crm.default.svc:3000"}}
LEAST = {"authtoken": {"existingSecret": "adit"}, "config": {"agent": {"connect_url": "connect.vendor.example:8443"}, "endpoints": [ENDPOINT]}}
POLICY = {"version": 1, "allow": [{"name": "crm", "endpoints": ["https://acme.vendor.example"], "hosts": ["crm.default.svc"]}]}
MOST = {
    **LEAST,
    "authtoken": {"value": "adit_t0k3n", "key": "token"},
    "policy": POLICY,
    "image": {"digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "pull"}],
    "replicas": 2,
    "podAnnotations": {"a": "b"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "state": {"existingClaim": "adit"},
}
REFUSED = [
    ({}, "config.agent.connect_url is empty"),
    ({**LEAST, "config": {**LEAST["config"], "endpoints": []}}, "config.endpoints is empty"),
    ({**LEAST, "authtoken": {}}, "no authtoken"),
    ({**LEAST, "config": {"agent": {"connect_url": "a:1", "authtoken": "x"}, "endpoints": [ENDPOINT]}}, "would be in a ConfigMap"),
]


def rendered(chart, values):
    texts = chart.render(values, name="demo", namespace="prod")
    documents = (yaml.safe_load(text) for name, text in sorted(texts.items()) if name.endswith(".yaml"))
    return {document["kind"]: document for document in documents if document}


def check(found, expected, what):
    if found != expected:
        sys.exit(f"{what}: {found!r}, not {expected!r}")


def look(kinds, values):
    pod = kinds["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    check(pod["restartPolicy"], "Always", "restartPolicy")
    check(pod["automountServiceAccountToken"], False, "a token of the cluster")
    check((pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["seccompProfile"]["type"]), (True, "RuntimeDefault"), "user, seccomp")
    context = container["securityContext"]
    check((context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"], context["capabilities"]), (True, False, {"drop": ["ALL"]}), "rights")
    configuration = yaml.safe_load(kinds["ConfigMap"]["data"]["adit.yml"])
    check(configuration["endpoints"], [ENDPOINT], "the configuration")
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    check("/etc/adit/policy.yml" in mounts, "policy" in values, "the policy's mount")
    check("--policy=/etc/adit/policy.yml" in container["args"], "policy" in values, "the policy's argument")
    check("Secret" in kinds, "value" in values["authtoken"], "a Secret of the chart")
    check("adit_t0k3n" in str(kinds), False, "the token in clear text")


def main():
    with helm_python.Chart.load(str(CHART)) as chart:
        for values in (LEAST, MOST):
            kinds = rendered(chart, values)
            for kind, document in kinds.items():
                for version in KUBERNETES:
                    kubernetes_validate.validate(document, version, strict=True)
            look(kinds, values)
            print(f"{', '.join(kinds)}: as Kubernetes {' and '.join(KUBERNETES)} want them")
        for values, said in REFUSED:
            try:
                rendered(chart, values)
            except helm_python.HelmError as error:
                if said not in str(error):
                    sys.exit(f"refused otherwise than by {said!r}: {error}")
            else:
                sys.exit(f"not refused: {said}")
        print(f"{len(REFUSED)} values that would not work are refused")


main()
