/** Files of a configuration on disk: whole ones only, and keys for their owner alone. */

import { mkdir, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { RenderedFile } from "./settings.ts";

export async function writeFiles(folder: string, files: readonly RenderedFile[]): Promise<void> {
  for (const { name, text, secret } of files) {
    const path = join(folder, name);
    await mkdir(dirname(path), { recursive: true });
    // Under another name first, so that a HAProxy that reloads at this moment never reads half of one.
    await writeFile(`${path}.new`, text, { mode: secret ? 0o600 : 0o644 });
    await rename(`${path}.new`, path);
  }
}
