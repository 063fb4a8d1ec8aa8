export function missingForKernelTests(): string | undefined;
