// Mirrors the folder `parts` by what chokidar tells: `chokidar.mjs MODULE`.
import { readFileSync } from 'node:fs';
import { parse } from 'node:path';
import { pathToFileURL } from 'node:url';

const { watch } = await import(pathToFileURL(process.argv[2]));
const parts = new Map();

watch('parts').on('all', (event, path) => {
    const { name, ext } = parse(path);
    if (ext !== '.txt') return;
    if (event === 'unlink') parts.delete(name);
    else parts.set(name, readFileSync(path, 'utf8'));
    const shown = [...parts].sort().map(([name, text]) => `${name}=${text}`);
    console.log(['shows', ...shown].join(' '));
});
