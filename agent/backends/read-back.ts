/**
 * How each backend's rules are read back from the kernel.
 *
 * `listing` is everything, for the compiler's `reconcile`, and `spool` the same for its `isIntact`; they cost what the rules
 * cost. `fingerprint` is a text that is equal as long as nobody has touched what stands apart from single elements; it costs
 * milliseconds, and more only where others have many rules.
 */

import type { IpFamily } from "../../cluster/model.ts";
import type { NatListing, NatListingInPieces } from "../../wasm-nat/nat.ts";
import { saveIptables } from "../kernel/iptables.ts";
import { listIpvs, listServers } from "../kernel/ipvs.ts";
import { listStructures, listTable, type NftTable, spoolTable } from "../kernel/nft.ts";
import type { KernelOptions } from "../kernel/transactions.ts";
import type { UnlinkedFile } from "../kernel/unlinked-file.ts";
import type { BackendName } from "./backend.ts";

export interface ReadBack {
  /** One for each family that has anything. */
  readonly listing: (options: KernelOptions) => Promise<readonly NatListing[]>;
  /** Absent where nothing can be asked for less than everything. */
  readonly fingerprint?: (options: KernelOptions) => Promise<string>;
  /** The listing for an audit, without its being in memory as a whole where that can be had. */
  readonly spool: (options: KernelOptions) => Promise<SpooledListing>;
  /** All of it stands in tables of ours, so that others can be put in their place. */
  readonly isReplaceable: boolean;
  /** Where endpoints wait for their connections to end: whose have. */
  readonly connections?: (options: KernelOptions) => Promise<string>;
}

export interface SpooledListing {
  readonly listings: readonly NatListingInPieces[];
  /** Call it in the end. */
  readonly close: () => void;
}

/** The table of either family, as `wasm-nat` names it. */
export const NFT_TABLE = "fairlead";

export function createReadBack(backend: BackendName, families: readonly IpFamily[]): ReadBack {
  switch (backend) {
    case "nftables":
      return nftReadBack(families);
    case "iptables":
      return iptablesReadBack(families);
    case "ipvs": {
      const listing: ReadBack["listing"] = (options) => listIpvs(families, options);
      return {
        listing,
        spool: inMemory(listing),
        isReplaceable: false,
        connections: listServers,
      };
    }
    default:
      return backend satisfies never;
  }
}

export function nftTables(families: readonly IpFamily[]): readonly (NftTable & { readonly of: IpFamily })[] {
  return families.map((of) => ({ of, family: of === "IPv4" ? "ip" : "ip6", name: NFT_TABLE }));
}

function nftReadBack(families: readonly IpFamily[]): ReadBack {
  const tables = nftTables(families);
  return {
    listing: async (options) => {
      const listings: NatListing[] = [];
      for (const table of tables) {
        const text = await listTable(table, options);
        if (text !== undefined) listings.push({ family: table.of, text });
      }
      return listings;
    },
    spool: async (options) => {
      const files: UnlinkedFile[] = [];
      const close = (): void => files.splice(0).forEach((file) => void file.close());
      const listings: NatListingInPieces[] = [];
      try {
        for (const table of tables) {
          const file = await spoolTable(table, options);
          if (file === undefined) continue;
          files.push(file);
          listings.push({ family: table.of, pieces: file.pieces() });
        }
      } catch (error) {
        close();
        throw error;
      }
      return { listings, close };
    },
    fingerprint: async (options) => {
      const texts = await listStructures(tables, options);
      return texts.map((text) => text ?? "").join("\n");
    },
    isReplaceable: true,
  };
}

function iptablesReadBack(families: readonly IpFamily[]): ReadBack {
  const save = async (family: IpFamily, options: KernelOptions): Promise<string> => {
    const nat = await saveIptables({ family }, "nat", options);
    return nat + (await saveIptables({ family }, "filter", options));
  };
  const listing: ReadBack["listing"] = async (options) => {
    const listings: NatListing[] = [];
    for (const family of families) listings.push({ family, text: await save(family, options) });
    return listings;
  };
  return {
    listing,
    spool: inMemory(listing),
    isReplaceable: false,
  };
}

function inMemory(listing: ReadBack["listing"]): ReadBack["spool"] {
  return async (options) => {
    const listings = await listing(options);
    return {
      listings: listings.map(({ family, text }) => ({
        family,
        pieces: [typeof text === "string" ? Buffer.from(text) : text],
      })),
      close: () => {},
    };
  };
}
