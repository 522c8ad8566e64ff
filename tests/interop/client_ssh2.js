// A client made of node's ssh2; what it is asked: tests/system/interop.py.
'use strict';
const { readFileSync } = require('fs');
const { Client } = require('ssh2');

const [host, port, username, keyfile, fingerprint, verb, ...args] =
	process.argv.slice(2);
const client = new Client();

function fail(error) {
	console.error(`${error.name}: ${error.message}`);
	process.exitCode = 1;
	client.end();
}

function open(host, port) {
	client.forwardOut('127.0.0.1', 0, host, Number(port), (error, stream) => {
		if (error)
			return fail(error);
		process.stdin.pipe(stream).pipe(process.stdout);
		stream.on('close', () => client.end());
	});
}

function listen(port) {
	client.on('tcp connection', (_info, accept) => {
		const stream = accept();
		stream.pipe(stream);
	});
	client.forwardIn('localhost', Number(port), (error, bound) => {
		if (error)
			return fail(error);
		console.log(`listening on ${bound || port}`);
		process.stdin.resume();
		process.stdin.on('end', () =>
			client.unforwardIn('localhost', bound || Number(port), (error) =>
				error ? fail(error) : client.end()));
	});
}

function exec(words) {
	client.exec(words, (error, stream) => {
		if (error)
			return fail(error);
		stream.on('exit', (status) => { process.exitCode = status; });
		stream.on('close', () => client.end());
		stream.pipe(process.stdout);
	});
}

client.on('error', fail);
client.on('close', () => process.exit());
client.on('ready', () => ({ open, listen, exec })[verb](...args));
client.connect({
	host, port: Number(port), username, privateKey: readFileSync(keyfile),
	hostHash: 'sha256', hostVerifier: (hash) => hash === fingerprint,
	keepaliveInterval: 1000 * Number(process.env.KEEPALIVE || 0),
});
