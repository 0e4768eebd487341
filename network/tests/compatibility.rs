//! Policies as ngrok's users write them: each is read as `policy check` does, and requests pass through it as `policy test` does.

use std::{path::PathBuf, sync::Arc};

use adit_network::policy::{Scene, show};
use adit_policy::{document::Document, engine::Policy};

#[tokio::test]
async fn each_policy_of_that_form_runs_as_it_is() {
    let (mut policies, mut requests, mut faults) = (0, 0, Vec::new());
    for case in cases() {
        policies += usize::from(case.refused.is_none());
        requests += case.scenes.len();
        if let Err(what) = case.check().await {
            faults.push(format!("{}: {what}", case.title));
        }
    }

    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(policies > 75 && requests > 120, "{policies} policies, {requests} requests");
}

/// A policy, and what is to come of it.
#[derive(Default)]
struct Case {
    title: String,
    policy: String,
    /// What is told of it, if it is refused.
    refused: Option<String>,
    /// Requests, and lines that the verdict of each has.
    scenes: Vec<(String, Vec<String>)>,
}

impl Case {
    async fn check(&self) -> Result<(), String> {
        match (Document::parse(&self.policy), &self.refused) {
            (Ok(_), None) => {}
            (Ok(_), Some(told)) => return Err(format!("accepted, and not: {told}")),
            (Err(problems), told) => {
                let all: Vec<_> = problems.iter().map(ToString::to_string).collect();
                let expected = told.as_ref().is_some_and(|told| all.iter().any(|problem| problem.contains(told)));
                return if expected { Ok(()) } else { Err(all.join("; ")) };
            }
        }
        if self.scenes.is_empty() {
            return Err("nothing is asked of it".into());
        }
        for (scene, expected) in &self.scenes {
            // A policy for each, so that no request counts for another.
            let policy = Arc::new(Policy::new(Document::parse(&self.policy).map_err(|_| "twice")?));
            let scene: Scene = serde_json::from_str(scene).map_err(|error| format!("{scene}: {error}"))?;
            let text = show(&policy, &scene).await?.text();
            for line in expected {
                if !text.lines().any(|told| told == line) {
                    return Err(format!("no line {line:?} in:\n{text}"));
                }
            }
            if expected.is_empty() {
                return Err(format!("nothing is expected of:\n{text}"));
            }
        }
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../policy/tests/ngrok");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).expect("a directory").map(|file| file.expect("a file").path()).collect();
    files.sort();
    let mut cases: Vec<Case> = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "cases")) {
        let text = std::fs::read_to_string(file).expect("text").replace("@RS256@", RS256).replace("@JWKS@", JWKS);
        for line in text.lines() {
            let case = cases.last_mut();
            match (line.split_at_checked(2), case) {
                (Some(("==", rest)), _) => {
                    let title = rest.trim_start_matches('=').trim().to_owned();
                    cases.push(Case { title, ..Case::default() });
                }
                (Some(("> ", scene)), Some(case)) => case.scenes.push((scene.to_owned(), Vec::new())),
                (Some(("< ", told)), Some(case)) => {
                    case.scenes.last_mut().expect("a request before its verdict").1.push(told.to_owned());
                }
                (Some(("! ", told)), Some(case)) => case.refused = Some(told.to_owned()),
                (_, Some(case)) => {
                    case.policy.push_str(line);
                    case.policy.push('\n');
                }
                (_, None) => panic!("{}: a line before any case: {line}", file.display()),
            }
        }
    }
    cases
}

/// The token of RFC 7515, appendix A.2, and the public half of its key.
const RS256: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
const JWKS: &str = r#"{"keys": [{"kty": "RSA", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ", "e": "AQAB"}]}"#;
