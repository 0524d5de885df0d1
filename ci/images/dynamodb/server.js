// Runs dynalite with its data on the disk.
const dynalite = require('dynalite')

// A client that goes away within a request must not end the server.
process.on('uncaughtException', (error) => {
  if (error.code !== 'ECONNRESET') throw error
})

const server = dynalite({ path: '/data', createTableMs: 0, deleteTableMs: 0, updateTableMs: 0 })
// Clients close their unused connections themselves. Otherwise a request on a connection that the server is just closing
// would fail.
server.keepAliveTimeout = 0
server.listen(8000)
