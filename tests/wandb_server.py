"""A stand-in for W&B's server on 127.0.0.1: it takes what the client of wandb 0.31 sends, and remembers it."""

import gzip
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

KEY = "0123456789abcdef0123456789abcdef01234567"  # of nobody


class StandIn(ThreadingHTTPServer):
    """runs: by id, {"job": job type, "files": {path: bytes}, "history": [rows], "complete": whether it ended}.

    made: (job type, artifact, its aliases, its metadata) of each artifact; used: (job type, artifact) of each input.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.runs, self.artifacts, self.made, self.used = {}, {}, [], []
        self.strange = []  # questions that nobody taught it

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, *_):
        """A client that hangs up is no news."""

    def run(self, name):
        return self.runs.setdefault(name, {"job": None, "files": {}, "history": [], "complete": False})

    def answer(self, question, asked):
        """To a GraphQL operation, by its name."""
        answers = getattr(self, question, None)
        if answers is None:
            self.strange.append(question)
            return {}
        return answers(**asked)

    def Viewer(self):
        return {"viewer": {"id": "u", "entity": "me", "username": "me", "email": "", "flags": "{}", "teams": None}}

    def ServerFeaturesQuery(self):
        return {"serverInfo": {"features": []}}

    def OrganizationCoreWeaveOrganizationID(self, **_):
        return {"entity": {"organization": None}}

    def UpsertBucket(self, name, project, jobType, **_):
        self.run(name)["job"] = jobType or self.run(name)["job"]
        place = {"id": "p", "name": project, "entity": {"id": "e", "name": "me"}}
        bucket = {"id": name, "name": name, "displayName": name, "project": place}
        return {"upsertBucket": {"inserted": True, "bucket": bucket}}

    def CreateRunFiles(self, run, files, **_):
        places = [{"name": name, "uploadUrl": f"{self.url}/upload/{run}/{name}"} for name in files]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": places}}

    def ArtifactType(self, **_):
        return {"project": {"artifact": None}}

    def CreateArtifact(self, input):
        identity, aliases = f"a{len(self.artifacts)}", [one["alias"] for one in input["aliases"]]
        name, metadata = input["artifactCollectionName"], json.loads(input["metadata"])
        collection = {
            "__typename": "ArtifactSequence",
            "name": name,
            "project": {"id": "p", "internalId": "1", "name": input["projectName"], "entity": {"name": "me"}},
        }
        self.artifacts[identity] = {
            "__typename": "Artifact",
            "id": identity,
            "artifactSequence": collection,
            "versionIndex": 0,
            "artifactType": {"name": input["artifactTypeName"]},
            "description": None,
            "metadata": input["metadata"],
            "ttlDurationSeconds": 0,
            "ttlIsInherited": True,
            "tags": [],
            "historyStep": None,
            "state": "PENDING",
            "size": 0,
            "digest": input["digest"],
            "commitHash": None,
            "fileCount": 1,
            "createdAt": "2026-01-01T00:00:00Z",
            "updatedAt": "2026-01-01T00:00:00Z",
            "aliases": [],
        }
        self.made.append((self.run(input["runName"])["job"], name, aliases, metadata))
        return {"createArtifact": {"artifact": {"id": identity, "state": "PENDING", "artifactSequence": {"id": "s"}}}}

    def CreateArtifactManifest(self, artifactID, **_):
        file = {"id": "f", "uploadUrl": f"{self.url}/upload/{artifactID}/manifest", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}

    UpdateArtifactManifest = CreateArtifactManifest

    def CreateArtifactFiles(self, input):
        edges = []
        for file in input["artifactFiles"]:
            place = f"{file['artifactID']}/{file['name']}"
            node = {"storagePath": place, "uploadUrl": f"{self.url}/upload/{place}", "uploadHeaders": []}
            edges.append({"node": {**node, "uploadMultipartUrls": None, "artifact": {"id": file["artifactID"]}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def CommitArtifact(self, artifactID, **_):
        self.artifacts[artifactID]["state"] = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": artifactID, "digest": self.artifacts[artifactID]["digest"]}}}

    def ArtifactByID(self, id, **_):
        return {"artifact": self.artifacts[id]}

    def ArtifactMembershipByName(self, name, **_):
        name, alias = name.split(":")
        for identity, (_, made, aliases, _) in zip(self.artifacts, self.made, strict=True):
            found = self.artifacts[identity]
            if made == name and alias in aliases and found["state"] == "COMMITTED":
                about = {"__typename": "ArtifactCollectionMembership", "id": "m", "versionIndex": 0, "aliases": []}
                about |= {"createdAt": found["createdAt"], "artifactCollection": found["artifactSequence"]}
                return {"project": {"artifactCollectionMembership": {**about, "artifact": found}}}
        return {"project": {"artifactCollectionMembership": None}}

    def UseArtifact(self, runName, artifactID, **_):
        used = self.artifacts[artifactID]
        self.used.append((self.run(runName)["job"], used["artifactSequence"]["name"]))
        return {"useArtifact": {"artifact": used}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        answer = {}
        if self.path == "/graphql":
            asked = json.loads(body)
            name = asked.get("operationName") or re.match(r"\s*\w+\s+(\w+)", asked["query"])[1]
            answer = {"data": self.server.answer(name, asked.get("variables") or {})}
        elif stream := re.fullmatch(r"/files/.+/(.+)/file_stream", self.path):
            run, told = self.server.run(stream[1]), json.loads(body)
            rows = told.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
            run["history"] += [json.loads(row) for row in rows]
            run["complete"] |= told.get("complete", False)
        elif upload := re.fullmatch(r"/upload/([^/]+)/(.+)", self.path):
            self.server.run(upload[1])["files"][upload[2]] = body
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST


@pytest.fixture
def wandb_server(monkeypatch, tmp_path):
    """A StandIn to which this process's W&B goes, with a key of nobody's."""
    import wandb

    with StandIn() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        for name in ("CONFIG", "CACHE"):
            monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name.lower()))
        wandb.teardown()  # what it knew before was another place
        yield server
        wandb.teardown()
