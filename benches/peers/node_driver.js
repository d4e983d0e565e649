// The node-ssh peer of benches/compare: one connection, kept open, and commands on request.
//
//     node_driver.js HOST PORT USER KEY_FILE KNOWN_HOSTS_FILE COMMAND
//
// It speaks as asyncssh_driver.py does, which says how.
'use strict';

const fs = require('fs');
const path = require('path');
const readline = require('readline');
const { NodeSSH } = require('node-ssh');

// For one command. What takes longer is an error, as it is for the other peers.
const DEADLINE = 30_000;
// For one request: no command is begun after that.
const PATIENCE = 60_000;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

class Turn {
  ms = [];
  errors = 0;
  firstError = null;
  started = performance.now();

  async command(ssh, command) {
    const started = performance.now();
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error('no end within the deadline')), DEADLINE);
    });
    try {
      const ended = await Promise.race([ssh.execCommand(command), late]);
      const elapsed = performance.now() - started;
      if (ended.code !== 0) throw new Error(`status ${ended.code}`);
      this.ms.push(elapsed);
    } catch (error) {
      this.errors += 1;
      this.firstError ??= String(error.message || error);
    } finally {
      clearTimeout(timer);
    }
  }

  over() {
    return performance.now() - this.started > PATIENCE;
  }

  answer() {
    const seconds = (performance.now() - this.started) / 1000;
    return { ms: this.ms, errors: this.errors, first_error: this.firstError, seconds };
  }
}

async function oneByOne(ssh, command, commands, pause) {
  const turn = new Turn();
  for (let done = 0; done < commands && !turn.over(); done += 1) {
    await turn.command(ssh, command);
    if (pause) await sleep(pause);
  }
  return turn.answer();
}

async function atOnce(ssh, command, width, commands) {
  const turn = new Turn();
  let left = commands;
  const worker = async () => {
    while (left > 0 && !turn.over()) {
      left -= 1;
      await turn.command(ssh, command);
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
  return turn.answer();
}

function versionOf(name) {
  let directory = path.dirname(require.resolve(name));
  while (!fs.existsSync(path.join(directory, 'package.json'))) directory = path.dirname(directory);
  return JSON.parse(fs.readFileSync(path.join(directory, 'package.json'), 'utf8')).version;
}

async function main(host, port, user, key, knownHosts, command) {
  const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);
  const known = fs.readFileSync(knownHosts, 'utf8');
  const ssh = new NodeSSH();
  await ssh.connect({
    host,
    port: Number(port),
    username: user,
    privateKeyPath: key,
    // It knows no known_hosts files by itself.
    hostVerifier: (hostKey) => known.includes(hostKey.toString('base64')),
  });
  // It leaves Nagle's algorithm on, which costs 40 ms a command on loopback; a comparison with that would be none.
  ssh.connection.setNoDelay(true);
  say({
    versions: { 'node-ssh': versionOf('node-ssh'), ssh2: versionOf('ssh2'), 'Node.js': process.versions.node },
    no_delay: true,
  });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [request, ...numbers] = line.trim().split(/\s+/);
    const [first, second] = numbers.map(Number);
    if (request === 'tight') say(await oneByOne(ssh, command, first, 0));
    else if (request === 'spaced') say(await oneByOne(ssh, command, first, second));
    else if (request === 'width') say(await atOnce(ssh, command, first, second));
    else throw new Error(`no such request: ${line}`);
  }
  ssh.dispose();
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error.message || error);
  process.exit(1);
});
