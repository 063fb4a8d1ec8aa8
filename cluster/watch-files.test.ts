import { mkdirSync, mkdtempSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type FileWatch, type WatchOptions, watchManifestFiles } from "./watch-files.ts";

let folder: string;
let watch: FileWatch | undefined;
let changes: number;
let wake: (() => void) | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "fairlead-watch-"));
  changes = 0;
});

afterEach(() => {
  watch?.close();
  watch = undefined;
  rmSync(folder, { recursive: true, force: true });
});

/** Polls so seldom that only the system's notices can be what tells a change. */
const NOTICES_ONLY: WatchOptions = { pollMilliseconds: 3_600_000 };

async function follow(paths: readonly string[], options: WatchOptions = NOTICES_ONLY): Promise<void> {
  watch = await watchManifestFiles(
    paths,
    () => {
      changes++;
      wake?.();
    },
    options,
  );
}

/** Waits until something was told; the suite's time limit is the failure. */
async function told(times = 1): Promise<void> {
  while (changes < times) await new Promise<void>((resolve) => (wake = resolve));
}

function path(name: string): string {
  return join(folder, name);
}

describe("a change is told", () => {
  test("of a file in a folder", async () => {
    writeFileSync(path("a.yaml"), "a: 1\n");
    await follow([folder]);
    writeFileSync(path("a.yaml"), "a: 2\n");
    await told();
  });

  test("of a file that is named, replaced by renaming as editors do", async () => {
    writeFileSync(path("a.yaml"), "a: 1\n");
    await follow([path("a.yaml")]);
    writeFileSync(path(".a.yaml.swp"), "a: 2\n");
    renameSync(path(".a.yaml.swp"), path("a.yaml"));
    await told();
  });

  test("of a file that is named and appears later", async () => {
    await follow([path("a.yaml")]);
    writeFileSync(path("a.yaml"), "a: 1\n");
    await told();
  });

  test("of a new file and of a deleted one", async () => {
    await follow([folder]);
    writeFileSync(path("a.yaml"), "a: 1\n");
    await told(1);
    rmSync(path("a.yaml"));
    await told(2);
  });

  test("of a file in a new folder in a new folder", async () => {
    await follow([folder]);
    mkdirSync(path("x/y"), { recursive: true });
    writeFileSync(path("x/y/a.yaml"), "a: 1\n");
    await told(1);
    writeFileSync(path("x/y/a.yaml"), "a: 2\n");
    await told(2);
  });

  test("of a folder that was removed and made again", async () => {
    mkdirSync(path("x"));
    writeFileSync(path("x/a.yaml"), "a: 1\n");
    await follow([folder]);
    rmSync(path("x"), { recursive: true });
    await told(1);
    mkdirSync(path("x"));
    writeFileSync(path("x/a.yaml"), "a: 1\n");
    await told(2);
    writeFileSync(path("x/a.yaml"), "a: 3\n");
    await told(3);
  });

  test("of a mounted ConfigMap, whose files change by one renamed link", async () => {
    mkdirSync(path("..1"));
    mkdirSync(path("..2"));
    writeFileSync(path("..1/a.yaml"), "a: 1\n");
    writeFileSync(path("..2/a.yaml"), "a: 2\n");
    symlinkSync("..1", path("..data"));
    symlinkSync("..data/a.yaml", path("a.yaml"));
    await follow([folder]);
    symlinkSync("..2", path("..data_tmp"));
    renameSync(path("..data_tmp"), path("..data"));
    await told();
  });

  test("by looking, where no notice comes: a link out of the folder", async () => {
    const elsewhere = mkdtempSync(join(tmpdir(), "fairlead-watch-"));
    try {
      writeFileSync(join(elsewhere, "a.yaml"), "a: 1\n");
      symlinkSync(join(elsewhere, "a.yaml"), path("a.yaml"));
      await follow([folder], { pollMilliseconds: 50 });
      writeFileSync(join(elsewhere, "a.yaml"), "a: 2\n");
      await told();
    } finally {
      rmSync(elsewhere, { recursive: true });
    }
  });
});

describe("a change is not told", () => {
  /** A marker file is the event to wait for: what was told by then was told of it alone. */
  async function untilMarker(): Promise<void> {
    const before = changes;
    writeFileSync(path("marker.yaml"), "marker: 1\n");
    const recording = wake;
    while (changes < before + 1) {
      await new Promise<void>((resolve) => {
        wake = () => {
          recording?.();
          resolve();
        };
      });
    }
  }

  test("of files that are no manifests", async () => {
    await follow([folder]);
    writeFileSync(path("notes.txt"), "x");
    writeFileSync(path(".hidden.yaml"), "x");
    await untilMarker();
    expect(changes).toBe(1);
  });

  test("twice where many files change at once", async () => {
    await follow([folder]);
    for (let i = 0; i < 200; i++) writeFileSync(path(`${i}.yaml`), "a: 1\n");
    await untilMarker();
    expect(changes).toBe(1);
  });

  test("once the watch is closed", async () => {
    await follow([folder], { pollMilliseconds: 10, debounceMilliseconds: 1 });
    watch?.close();
    const other = await watchManifestFiles([folder], () => wake?.(), NOTICES_ONLY);
    const next = new Promise<void>((resolve) => (wake = resolve));
    writeFileSync(path("a.yaml"), "a: 1\n");
    await next;
    other.close();
    expect(changes).toBe(0);
  });

  test("while a file is between being emptied and being written", async () => {
    writeFileSync(path("a.yaml"), "a: 1\n");
    await follow([folder]);
    const sizes: number[] = [];
    wake = () => sizes.push(statSync(path("a.yaml")).size);
    writeFileSync(path("a.yaml"), "");
    // Several debounces later, as a slow writer would: looking in between must not tell the empty file.
    await wait(200);
    writeFileSync(path("a.yaml"), "a: 2\nb: 3\n");
    await untilMarker();
    expect(sizes[0]).toBeGreaterThan(0);
  });
});
