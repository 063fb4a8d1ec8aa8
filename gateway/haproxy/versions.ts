/**
 * Configurations on disk, two at most: `current` is a link to the one that HAProxy reads at its next start or reload, and
 * the other folder is where the next one is written and checked. So HAProxy never finds half of one, and the way back is
 * the link alone.
 */

import { spawn } from "node:child_process";
import { mkdir, readlink, rename, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import type { RenderedFile } from "./settings.ts";
import { writeFiles } from "./write.ts";

/** The names of the two folders. */
export type Version = "a" | "b";

export class Versions {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Undefined: nothing has been installed yet. */
  async current(): Promise<Version | undefined> {
    try {
      return (await readlink(join(this.#folder, "current"))) === "b" ? "b" : "a";
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  }

  folderOf(version: Version): string {
    return join(this.#folder, version);
  }

  /** Writes a configuration beside the current one. */
  async stage(render: (folder: string) => readonly RenderedFile[]): Promise<Version> {
    const version = (await this.current()) === "a" ? "b" : "a";
    const folder = this.folderOf(version);
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
    await writeFiles(folder, render(folder));
    return version;
  }

  /** Makes it the one that HAProxy reads next. */
  async install(version: Version): Promise<void> {
    const link = join(this.#folder, "current");
    await rm(`${link}.new`, { force: true });
    await symlink(version, `${link}.new`);
    await rename(`${link}.new`, link);
  }
}

/** What HAProxy says against a configuration (`haproxy -c`), on one line; undefined: nothing. Rejects where it cannot run. */
export async function objectionOf(program: string, file: string): Promise<string | undefined> {
  const child = spawn(program, ["-c", "-f", file], { stdio: ["ignore", "ignore", "pipe"] });
  const chunks: Buffer[] = [];
  child.stderr.on("data", (chunk: Buffer) => chunks.push(chunk));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  if (code === 0) return undefined;
  const lines = Buffer.concat(chunks).toString().trim().split("\n");
  const alarm = lines.find((line) => line.includes("[ALERT]")) ?? lines[0] ?? `it ended with ${code}`;
  return alarm.replace(/^\[\w+\]\s*\(\d+\)\s*:\s*/, "").replace(/^config\s*:\s*/, "");
}
