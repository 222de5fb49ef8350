// Runs http-tests/cache-tests against a cache and prints a line for each test: id, kind, result.
// Usage: node cache-tests.mjs FOLDER BASE-URL [ID,ID…], FOLDER being the package or a checkout of its repository.

import fs from 'fs'
import path from 'path'
import { pathToFileURL } from 'url'

const [folder, base, only] = process.argv.slice(2)
const isNew = fs.existsSync(path.join(folder, 'test-engine'))
const load = async file => import(pathToFileURL(path.resolve(folder, file)).href)
const suites = (await load('tests/index.mjs')).default
const runner = await load(isNew ? 'test-engine/client/runner.mjs' : 'client/runner.mjs')
if (!isNew) {
  suites.push((await load('tests/surrogate-control.mjs')).default)
}
const all = suites.flatMap(suite => suite.tests)
const wanted = only ? all.filter(test => only.split(',').includes(test.id)) : all
const chosen = [{ tests: wanted }]
if (isNew) {
  await runner.runTests(chosen, false, base)
} else {
  const fetch = (await load('node_modules/node-fetch/lib/index.mjs').catch(() => load('../node-fetch/lib/index.mjs'))).default
  await runner.runTests(chosen, fetch, false, base)
}

const results = runner.getResults()
const byId = new Map(all.map(test => [test.id, test]))
function judge (id) {
  const result = results[id]
  if (result === undefined) return 'untested'
  const dependencies = only ? [] : byId.get(id).depends_on || []
  if (dependencies.some(other => judge(other) !== 'pass')) return 'dependency'
  return result === true ? 'pass' : result[0] === 'Setup' ? 'setup' : 'fail'
}
for (const test of wanted) {
  const judged = judge(test.id)
  const why = Array.isArray(results[test.id]) ? results[test.id].join(': ') : ''
  if (judged !== 'untested') console.log([test.id, test.kind || 'required', judged, why].join('\t'))
}
