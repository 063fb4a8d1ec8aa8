/** What an operator decides about a control service, checked. The names of flags and variables are in `cli/`. */

import type { AccessTokens } from "./access.ts";
import type { CompileOptions } from "./compile/options.ts";
import type { PublisherPace } from "./kv/publisher.ts";
import type { ListenAddress } from "./listen.ts";
import type { TraceSettings } from "./traces.ts";

export interface ControlSettings {
  readonly kv: {
    /** See `KvClientOptions`. */
    readonly baseUrl: string;
    readonly namespaceId: string;
    readonly token?: string | undefined;
    /** See `BudgetSettings`. */
    readonly callsInFiveMinutes: number;
    readonly writesADay?: number | undefined;
  };
  /** Text of `FAIRLEAD_CONFIG_KEY`. */
  readonly configKey?: string | undefined;
  readonly pace: PublisherPace;
  /** Writes nothing to KV, and tells what would be written. */
  readonly dryRun: boolean;
  readonly compile: CompileOptions;
  /** The document of host ownership, as it was read; absent: no rules. */
  readonly hostOwnership?: unknown;
  /** Absent: no traces. */
  readonly traces?: TraceSettings;
  readonly listen: ListenAddress;
  readonly api: {
    readonly tokens: AccessTokens;
    readonly maxBodyBytes: number;
    readonly loopbackOnly: boolean;
  };
}
