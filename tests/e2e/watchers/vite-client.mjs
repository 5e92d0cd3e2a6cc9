// A page of vite's dev server, as a browser keeps it open: `vite-client.mjs WS-MODULE URL`.
import { pathToFileURL } from 'node:url';

const { default: ws } = await import(pathToFileURL(process.argv[2]));
const server = process.argv[3];

// As in a browser, a module's address is loaded once in the life of a page.
const loaded = new Map();

async function load(address) {
    if (!loaded.has(address)) {
        const answer = await fetch(new URL(address, server));
        if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
        loaded.set(address, await answer.text());
    }
    return loaded.get(address);
}

async function show(address) {
    const imported = [...(await load(address)).matchAll(/from "(\/parts\/[^"]+)"/g)];
    const shown = imported.map(async ([, part]) => {
        const name = part.match(/(\w+)\.js/)[1];
        const [, text] = (await load(part)).match(/export default '(.*)'/);
        return `${name}=${text}`;
    });
    console.log(['shows', ...(await Promise.all(shown)).sort()].join(' '));
}

async function open() {
    loaded.clear();
    const [, address] = (await load('/')).match(/src="(\/main\.js[^"]*)"/);
    await show(address);
}

async function follow(message) {
    if (message.type === 'full-reload') {
        await open();
    } else if (message.type === 'update') {
        for (const { acceptedPath, timestamp } of message.updates) {
            await show(`${acceptedPath}?t=${timestamp}`);
        }
    }
}

const [, token] = (await load('/@vite/client')).match(/wsToken = "([^"]+)"/);
const socket = new ws.WebSocket(new URL(`/?token=${token}`, server.replace('http', 'ws')), 'vite-hmr');
await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
// One after the other, in the order in which they come.
let work = open();
socket.on('message', data => {
    const message = JSON.parse(data);
    console.log('heard', JSON.stringify(message));
    work = work.then(() => follow(message)).catch(error => console.log(String(error)));
});
