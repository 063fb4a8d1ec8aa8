import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { formatDiagnostic } from "./diagnostic.ts";
import { MAX_FILE_BYTES, ManifestReader, type Manifests, readManifests, readManifestText } from "./files.ts";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "fairlead-files-"));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

function write(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  return path;
}

function configMap(name: string, value = "x"): string {
  return `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ${name}}\ndata: {value: "${value}"}\n`;
}

/** Names and values of ConfigMaps. */
function held({ objects }: Manifests): readonly string[] {
  return objects.map((object) =>
    object.kind === "ConfigMap" ? `${object.meta.name}=${object.data.value}` : object.kind,
  );
}

function said({ diagnostics }: Manifests): readonly string[] {
  return diagnostics.map((diagnostic) =>
    formatDiagnostic(diagnostic).replaceAll(`${folder}/`, "").replaceAll(folder, "FOLDER"),
  );
}

describe("which files are read", () => {
  test("folders at any depth, by name; hidden ones and other kinds of files not", async () => {
    write("b.yaml", configMap("b"));
    write("a/z.yml", configMap("z"));
    write(
      "a/deep/er/c.JSON",
      '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"value":"x"}}',
    );
    write(".git/d.yaml", configMap("hidden"));
    write(".e.yaml", configMap("hidden"));
    write("README.md", "no manifest");
    const manifests = await readManifests([folder]);
    expect(held(manifests)).toEqual(["c=x", "z=x", "b=x"]);
    expect(said(manifests)).toEqual([]);
  });

  test("a file that is named is read whatever it is called, in the order given", async () => {
    const one = write("one.txt", configMap("one"));
    const two = write(".two", configMap("two"));
    expect(held(await readManifests([two, one, two]))).toEqual(["two=x", "one=x"]);
  });

  test("links are followed, each file once, and loops end", async () => {
    write("real/a.yaml", configMap("a"));
    symlinkSync("a.yaml", join(folder, "real/b.yaml"));
    linkSync(join(folder, "real/a.yaml"), join(folder, "real/c.yaml"));
    symlinkSync("..", join(folder, "real/loop"));
    symlinkSync("self.yaml", join(folder, "self.yaml"));
    symlinkSync("nowhere.yaml", join(folder, "dangling.yaml"));
    const manifests = await readManifests([folder]);
    expect(held(manifests)).toEqual(["a=x"]);
    expect(said(manifests)).toEqual([
      "error: File dangling.yaml: it does not exist; nothing of it is read",
      "error: File self.yaml: its symbolic links go in a circle; nothing of it is read",
    ]);
  });

  test("a pipe is read to its end where it is named, and left alone in a folder", async () => {
    execFileSync("mkfifo", [join(folder, "pipe.yaml")]);
    expect(held(await readManifests([folder]))).toEqual([]);
    const writer = spawn("sh", [
      "-c",
      'printf "%s" "$1" > "$2"',
      "sh",
      configMap("piped"),
      join(folder, "pipe.yaml"),
    ]);
    const reading = readManifests([join(folder, "pipe.yaml")]);
    expect(held(await reading)).toEqual(["piped=x"]);
    if (writer.exitCode === null) await once(writer, "exit");
  });

  test("what cannot be read is named", async () => {
    write("empty/none.txt", "");
    const manifests = await readManifests([
      join(folder, "missing.yaml"),
      join(folder, "empty"),
      join(folder, "empty/none.txt/x"),
    ]);
    expect(manifests.objects).toEqual([]);
    expect(said(manifests)).toEqual([
      "error: File missing.yaml: it does not exist; nothing of it is read",
      "warning: File empty: the folder holds no .yaml, .yml or .json file",
      "error: File empty/none.txt/x: a part of its path is no folder; nothing of it is read",
    ]);
  });

  test("a name with a line break cannot forge a line", async () => {
    const { diagnostics } = await readManifests([join(folder, "a\nready http://127.0.0.1:1.yaml")]);
    expect(diagnostics.map(formatDiagnostic).join("").includes("\n")).toBe(false);
  });
});

describe("what files may hold", () => {
  const good = Buffer.from(configMap("good"));
  test.each<[string, Uint8Array, readonly string[], readonly (string | RegExp)[]]>([
    ["nothing", Buffer.alloc(0), [], []],
    ["a mark of UTF-8", Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), good]), ["good=x"], []],
    [
      "UTF-16, as PowerShell writes it",
      Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from(configMap("good"), "utf16le")]),
      ["good=x"],
      [],
    ],
    [
      "UTF-16, the other way round",
      Buffer.concat([Buffer.from([0xfe, 0xff]), Buffer.from(configMap("good"), "utf16le").swap16()]),
      ["good=x"],
      [],
    ],
    ["CRLF", Buffer.from(configMap("good").replaceAll("\n", "\r\n")), ["good=x"], []],
    [
      "bytes of another alphabet in one document",
      Buffer.concat([
        good,
        Buffer.from("---\na: "),
        Buffer.from([0xe9, 0x0a]),
        Buffer.from("---\n"),
        Buffer.from(configMap("more")),
      ]),
      ["good=x", "more=x"],
      [/^error: File f.yaml line 6: it holds bytes that are not UTF-8 text; the document is skipped$/],
    ],
    [
      "a picture",
      Buffer.concat([
        Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
        Buffer.alloc(5000, 0xc3),
      ]),
      [],
      [/^error: File f.yaml line 1: it holds bytes that are not UTF-8 text/],
    ],
    ["zeros", Buffer.alloc(4096), [], [/^error: File f.yaml line 1: it holds a NUL byte/]],
    [
      "a broken document between good ones",
      Buffer.from(`${configMap("a")}---\nx: [1\n---\n${configMap("b")}`),
      ["a=x", "b=x"],
      [/^error: File f.yaml line \d+: .*; the document is skipped$/],
    ],
    [
      "a key twice",
      Buffer.from(`${configMap("a")}data: {value: z}\n`),
      ["a=z"],
      ['warning: File f.yaml line 5: the key "data" stands twice in one map; the last one counts'],
    ],
  ])("%s", async (_name, content, objects, sentences) => {
    write("f.yaml", content);
    const manifests = await readManifests([folder]);
    expect(held(manifests)).toEqual(objects);
    expect(said(manifests)).toEqual(
      sentences.map((sentence) =>
        typeof sentence === "string" ? sentence : expect.stringMatching(sentence),
      ),
    );
  });

  test("a hundred thousand mistakes make a thousand sentences", () => {
    const manifests = readManifestText("x\n---\n".repeat(100_000), "f.yaml");
    expect(manifests.diagnostics).toHaveLength(1001);
    expect(manifests.diagnostics.at(-1)).toMatchObject({
      severity: "error",
      message: "there are 99000 more problems like these, 99000 of them errors",
    });
  });

  test("a file beyond the limit is refused without being read", async () => {
    truncateSync(write("big.yaml", ""), MAX_FILE_BYTES + 1);
    write("small.yaml", configMap("small"));
    const manifests = await readManifests([folder]);
    expect(held(manifests)).toEqual(["small=x"]);
    expect(said(manifests)).toEqual([
      "error: File big.yaml: it is larger than 128 MiB; nothing of it is read",
    ]);
  });

  test("of two objects with one name the last one read counts, and both are named", async () => {
    write("1.yaml", `${configMap("a", "first")}---\n${configMap("b")}`);
    write("2.yaml", configMap("a", "second"));
    const manifests = await readManifests([folder]);
    expect(held(manifests)).toEqual(["b=x", "a=second"]);
    expect(said(manifests)).toEqual([
      "warning: ConfigMap default/a: it is defined twice, in 1.yaml:1 and in 2.yaml:1; the latter counts (2.yaml:1)",
    ]);
  });

  test("the article's SSL passthrough sample, as it stands there, is one document of two halves", () => {
    const text = `apiVersion: extensions/v1beta1
kind: Ingress
metadata:
  name: passthrough
spec:
  rules:
  - host: any.c1.k8s.gigantic.io
    http:
      paths:
        - backend:
            serviceName: web
            servicePort: 80
      tls:
      - secretName: tls
        hosts:
        - any.c1.k8s.gigantic.io
annotations:
  nginx.ingress.kubernetes.io/ssl-passthrough: "true"
spec:
  tls:
  - hosts:
    - any.c1.k8s.gigantic.io
  rules:
  - host: any.c1.k8s.gigantic.io
    http:
      paths:
      - path: /
        backend:
          serviceName: web
          servicePort: 443
`;
    const manifests = readManifestText(text, "f.yaml");
    expect(manifests.objects).toMatchObject([
      {
        kind: "Ingress",
        tls: [{ hosts: ["any.c1.k8s.gigantic.io"] }],
        rules: [{ paths: [{ path: "/", backend: { port: { number: 443 } } }] }],
      },
    ]);
    expect(said(manifests)).toEqual([
      'warning: File f.yaml line 19: the key "spec" stands twice in one map; the last one counts',
      "warning: Ingress default/passthrough annotations: the field is not known here and is ignored; annotations belong into metadata.annotations (f.yaml:1)",
    ]);
  });
});

describe("a reader that reads again", () => {
  /** So that the file's time is not that of this very moment, when a reader trusts nothing. */
  function settle(path: string): void {
    const time = Date.now() / 1000 - 10;
    utimesSync(path, time, time);
  }

  test("parses only what changed", async () => {
    const a = write("a.yaml", configMap("a"));
    const b = write("b.yaml", configMap("b"));
    settle(a);
    settle(b);
    const reader = new ManifestReader([folder]);
    const before = await reader.read();
    settle(write("b.yaml", configMap("b", "y")));
    const after = await reader.read();
    expect(held(after)).toEqual(["a=x", "b=y"]);
    expect(after.objects[0]).toBe(before.objects[0]);
  });

  test("reads only the documents of a file that are new, wherever the others have moved", async () => {
    write("a.yaml", `${configMap("one")}---\n${configMap("two")}`);
    const reader = new ManifestReader([folder]);
    const before = await reader.read();
    write(
      "a.yaml",
      `# moved\n\n---\n${configMap("new")}---\n${configMap("two")}---\n${configMap("one", "y")}`,
    );
    const after = await reader.read();
    expect(held(after)).toEqual(["new=x", "two=x", "one=y"]);
    expect(after.objects[1]).toBe(before.objects[1]);
    write("b.yaml", configMap("two", "z"));
    expect(said(await reader.read())).toEqual([
      "warning: ConfigMap default/two: it is defined twice, in a.yaml:9 and in b.yaml:1; the latter counts (b.yaml:1)",
    ]);
  });

  test("keeps the objects of a broken document until it can be read again", async () => {
    write("a.yaml", `${configMap("one")}---\n${configMap("two")}`);
    const reader = new ManifestReader([folder]);
    await reader.read();
    write("a.yaml", `${configMap("one", "y")}---\n${configMap("two").replace("{value", "{value: [")}`);
    const broken = await reader.read();
    expect(held(broken)).toEqual(["two=x", "one=y"]);
    expect(said(broken)).toEqual([
      expect.stringMatching(/^error: File a.yaml line \d+: .*; the document is skipped$/),
      "warning: File a.yaml: until it can be read again, these stay as they were: ConfigMap default/two",
    ]);
    write("a.yaml", configMap("one", "z"));
    const healed = await reader.read();
    expect(held(healed)).toEqual(["one=z"]);
    expect(said(healed)).toEqual([]);
  });

  test("keeps an object that has become invalid", async () => {
    write("a.yaml", configMap("one"));
    const reader = new ManifestReader([folder]);
    await reader.read();
    write("a.yaml", configMap("one").replace('"x"', "5"));
    const broken = await reader.read();
    expect(held(broken)).toEqual(["one=x"]);
    expect(said(broken)).toEqual([
      expect.stringContaining('data["value"]: the number 5 came'),
      expect.stringContaining("these stay as they were: ConfigMap default/one"),
    ]);
  });

  test("forgets what is deleted from a folder, and keeps what lies under a path that is gone", async () => {
    write("dir/a.yaml", configMap("a"));
    write("dir/b.yaml", configMap("b"));
    const reader = new ManifestReader([join(folder, "dir")]);
    await reader.read();
    rmSync(join(folder, "dir/a.yaml"));
    expect(held(await reader.read())).toEqual(["b=x"]);
    renameSync(join(folder, "dir"), join(folder, "away"));
    const gone = await reader.read();
    expect(held(gone)).toEqual(["b=x"]);
    expect(said(gone)).toEqual([
      "error: File dir: it does not exist; nothing of it is read",
      "warning: File dir/b.yaml: until it can be read again, these stay as they were: ConfigMap default/b",
    ]);
    expect(held(await reader.read())).toEqual(["b=x"]);
    renameSync(join(folder, "away"), join(folder, "dir"));
    const back = await reader.read();
    expect(held(back)).toEqual(["b=x"]);
    expect(said(back)).toEqual([]);
  });

  test("an emptied file holds nothing", async () => {
    write("a.yaml", configMap("a"));
    const reader = new ManifestReader([folder]);
    await reader.read();
    write("a.yaml", "");
    expect(held(await reader.read())).toEqual([]);
  });

  test("keeps what cannot be read any more", async () => {
    const path = write("a.yaml", configMap("a"));
    const reader = new ManifestReader([folder]);
    await reader.read();
    rmSync(path);
    symlinkSync("a.yaml", path);
    const refused = await reader.read();
    expect(held(refused)).toEqual(["a=x"]);
    expect(said(refused)).toEqual([
      "error: File a.yaml: its symbolic links go in a circle; nothing of it is read",
      "warning: File a.yaml: until it can be read again, these stay as they were: ConfigMap default/a",
    ]);
  });
});
