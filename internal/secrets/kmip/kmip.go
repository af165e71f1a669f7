// Package kmip is a server of the Key Management Interoperability Protocol: the
// secrets engine kmip, with the API of
// https://developer.hashicorp.com/vault/api-docs/secret/kmip and listeners of its
// own.
//
// Clients are known by certificates that the mount's authority has issued for a
// role of a scope. A message is one request through the hall: its batch is one
// transaction, and it is recorded by the audit devices like any other.
//
// Keys within a mount:
//
//	config                       settings
//	ca                           the authority: root and intermediate with their keys
//	nca/<name>                   a named authority; use/<name>/<scope id>/<role> roles that name it
//	listener/<name>              a named listener
//	scope/<name>                 a scope; sid/<scope id> its name
//	role/<scope id>/<name>       a role; rid/<scope id>/<role id> its name
//	cred/<scope id>/<role id>/<serial>   a client certificate, not revoked
//	line/<scope id>/<role id>/<serial>/<serial>   a certificate that came of another by renewal
//	k/<scope id>/<role id>/<hash>   a ticket; a/… the answer of an operation that is asked for later
//	seen/<serial>                what is known of a client's use; trace/<serial> that its messages are kept
//	hook/<hash of address>/<seconds>   up to where in x/ a webhook was told of certificates that end
//	x/<time>/…                   what is forgotten at a time: certificates, destroyed objects
//	o/<scope id>/<hash of id>    what is known of an object; m/… its material
//	u/<scope id>/<hash of id>    when an object was used last, and by whom
//	t/<scope id>/<order>/<hash>  objects in the order of creation
//	i/<scope id>/<hash>/<order>  objects by the value of an attribute; names where older versions of arca made the scope
//	n/<scope id>/<hash>          whose a name is; see names.go
package kmip

import (
	"context"
	"crypto/rand"
	"errors"
	"regexp"
	"sync"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/ttlv"
)

// An Engine is the type kmip. One value serves all mounts.
type Engine struct {
	names   *regexp.Regexp
	marks   *regexp.Regexp // of parameters in templates
	servers *servers
	streams *streams
	turns   *turns             // of members of groups
	texts   func() *ttlv.Texts // made when they are needed first
	secret  [32]byte           // of this process; makes names that cannot be guessed
	ops     map[uint32]*operation
	fields  map[uint32][]ttlv.Tag // of the payloads of operations
	clear   []string              // see clearParams; it is only read
	quirks  map[string]*quirks    // of clients, by name
	scopes  *storage.Shared[*scope]
	roles   *storage.Shared[*role]
	creds   *storage.Shared[*credential]
	objects *storage.Shared[*object]
}

var (
	_ engine.Engine = (*Engine)(nil)
	_ engine.Runner = (*Engine)(nil)
	_ engine.Teller = (*Engine)(nil)

	errNotFound = errs.New(errs.NotFound, "not found")
)

// New makes the engine.
func New() *Engine {
	byCode, allowed := map[uint32]*operation{}, map[uint32][]ttlv.Tag{}
	for i, list := 0, table(); i < len(list); i++ {
		allowed[list[i].code] = fields(list[i].code)
		byCode[list[i].code] = &list[i]
	}
	e := &Engine{
		names:   regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`),
		marks:   marksPattern(),
		ops:     byCode,
		fields:  allowed,
		clear:   clearParams(),
		quirks:  clients(),
		texts:   sync.OnceValue(ttlv.NewTexts),
		streams: &streams{all: map[string]*stream{}},
		turns:   &turns{all: map[string]string{}},
		scopes:  storage.NewShared(1<<20, decodeScope),
		roles:   storage.NewShared(1<<20, decoded[role]),
		creds:   storage.NewShared(4<<20, decoded[credential]),
		objects: storage.NewShared(16<<20, decodeObject),
	}
	_, _ = rand.Read(e.secret[:]) // never fails
	e.servers = newServers(e)
	return e
}

// Type implements engine.Engine.
func (*Engine) Type() string { return "kmip" }

// protocolPath is where messages arrive, from the engine's own listeners only.
const protocolPath = "protocol"

// Routes implements engine.Engine.
func (e *Engine) Routes() []engine.Route {
	const role = "scope/{scope}/role/{role}"
	const certs = role + "/credential"
	return []engine.Route{
		engine.Read("config", e.readConfig, engine.ID("kmip-read-configuration"), engine.Help("Show the settings.")),
		engine.Write("config", e.writeConfig, engine.ID("kmip-configure"), engine.Help("Change settings, make the authority, listen.")),
		engine.Read("ca", e.readCA, engine.ID("kmip-read-ca"), engine.Help("Show the authority's certificates.")),
		engine.Read("ca/root", e.readRoot, engine.Help("Show the authority's root certificate.")),
		engine.List("ca", e.listCAs, engine.Help("List the named authorities.")),
		engine.Read("ca/{name}", e.readNamed, engine.Help("Show a named authority.")),
		engine.Write("ca/{name}", e.updateCA, engine.Help("Change whose the clients of an imported authority are.")),
		engine.Delete("ca/{name}", e.deleteCA, engine.Help("Delete a named authority.")),
		engine.Write("ca/{name}/generate", e.generateCA, engine.Help("Make a named authority.")),
		engine.Write("ca/{name}/import", e.importCA, engine.Help("Believe the clients of another authority.")),
		engine.Write("ca/{name}/rotate", e.rotateCA, engine.Help("Give a named authority a new key.")),
		engine.List("listener", e.listListeners, engine.Help("List the named listeners.")),
		engine.Read("listener/{name}", e.readListener, engine.Help("Show a named listener.")),
		engine.Write("listener/{name}", e.writeListener, engine.Help("Listen at an address, with an authority of its own.")),
		engine.Delete("listener/{name}", e.deleteListener, engine.Help("Stop a named listener.")),
		engine.List("scope", e.listScopes, engine.ID("kmip-list-scopes"), engine.Help("List the scopes.")),
		engine.Read("scope/{scope}", e.readScope, engine.Help("Show a scope.")),
		engine.Write("scope/{scope}", e.writeScope, engine.NoParamWarn, engine.ID("kmip-create-scope"), engine.Help("Make a scope.")),
		engine.Delete("scope/{scope}", e.deleteScope, engine.ID("kmip-delete-scope"), engine.Help("Delete a scope; with force, its objects, too.")),
		engine.Read("scope/{scope}/stats", e.stats, engine.Help("Count the objects of a scope.")),
		engine.List("scope/{scope}/object", e.listObjects, engine.Help("List objects in the order in which they were made.")),
		engine.Read("scope/{scope}/object/{id...}", e.readObject, engine.Help("Show what is known of an object; not its material.")),
		engine.Delete("scope/{scope}/object/{id...}", e.act((*batch).destroy), engine.Help("Destroy an object.")),
		engine.Write("scope/{scope}/object/{id...}/activate", e.act((*batch).activate), engine.Help("Activate an object.")),
		engine.Write("scope/{scope}/object/{id...}/revoke", e.revokeObject, engine.Help("Revoke an object.")),
		engine.Write("scope/{scope}/object/{id...}/archive", e.act((*batch).archive), engine.Help("Archive an object.")),
		engine.Write("scope/{scope}/object/{id...}/recover", e.act((*batch).recover), engine.Help("Take an object out of the archive.")),
		engine.Write("scope/{scope}/object/{id...}/restore", e.act((*batch).restore), engine.Help("Take a destroyed object back, while its scope keeps the material.")),
		engine.List("scope/{scope}/role", e.listRoles, engine.ID("kmip-list-roles"), engine.Help("List the roles.")),
		engine.Read(role, e.readRole, engine.ID("kmip-read-role"), engine.Help("Show a role.")),
		engine.Write(role, e.writeRole, engine.NoParamWarn, engine.ID("kmip-write-role"), engine.Help("Write a role.")),
		engine.Delete(role, e.deleteRole, engine.ID("kmip-delete-role"), engine.Help("Delete a role; its certificates stop working.")),
		engine.List(certs, e.listCredentials, engine.ID("kmip-list-client-certificates"), engine.Help("List the serial numbers of certificates.")),
		engine.Write(certs+"/generate", e.generate, engine.ID("kmip-generate-client-certificate"), engine.Help("Issue a certificate with a key.")),
		engine.Write(certs+"/sign", e.sign, engine.ID("kmip-sign-client-certificate-request"), engine.Help("Issue a certificate for a request.")),
		engine.Write(certs+"/renew", e.renew, engine.Help("Issue a certificate in place of another, which stays valid for a while.")),
		engine.Read(certs+"/lookup", e.lookup, engine.ID("kmip-retrieve-client-certificate"), engine.Help("Show a certificate.")),
		engine.Write(certs+"/revoke", e.revoke, engine.ID("kmip-revoke-client-certificate"), engine.Help("Revoke a certificate.")),
		engine.List("template", e.listTemplates, engine.Help("List the messages that the client API has ready.")),
		engine.Read("template/{name}", e.readTemplate, engine.Help("Show a message that the client API has ready.")),
		engine.Write(role+"/client", e.clientMessage, engine.NoParamWarn, engine.Help("Send a message on behalf of a role.")),
		engine.Write(role+"/client/{operations...}", e.clientMessage, engine.NoParamWarn, engine.Help("Send a message of these operations on behalf of a role.")),
		engine.Read(protocolPath, e.message, engine.ForRunner, engine.NoParamWarn, engine.Help("Take a message that only reads.")),
		engine.Write(protocolPath, e.message, engine.ForRunner, engine.NoParamWarn, engine.Help("Take a message.")),
		engine.List("client", e.listClientLog, engine.Help("List the clients that have come, by the serial numbers of their certificates.")),
		engine.Read("client/{serial}", e.readClientLog, engine.Help("Show what a client uses, when it came last, and what failed.")),
		engine.List("trace", e.listTraces, engine.Help("List the clients whose messages are kept.")),
		engine.Write("trace/{serial}", e.startTrace, engine.Help("Keep the messages of a client for a while, without what is secret.")),
		engine.Read("trace/{serial}", e.readTrace, engine.Help("Show the messages that this node has of a client.")),
		engine.Delete("trace/{serial}", e.stopTrace, engine.Help("Keep the messages of a client no more.")),
		engine.Write(seenPath, e.keepSeen, engine.ForRunner, engine.NoParamWarn, engine.Help("Keep which clients have come.")),
		engine.Write(usedPath, e.keepUsed, engine.ForRunner, engine.NoParamWarn, engine.Help("Keep which objects were used.")),
		engine.Write(hookPath, e.moveMark, engine.ForRunner, engine.NoParamWarn, engine.Help("Keep what webhooks were told.")),
		engine.Write(namesPath, e.noteNames, engine.ForRunner, engine.NoParamWarn, engine.Help("Note the names of objects that older versions have made.")),
		engine.Write(tidyPath, e.tidy, engine.ForRunner, engine.Help("Forget what is over.")),
	}
}

// get reads a record; the error is errNotFound when there is none.
func get[T any](tx storage.Tx, key string) (*T, error) {
	v, err := storage.GetJSON[T](tx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotFound
	}
	return v, err
}

// list is the answer of a listing.
func list(tx storage.Tx, dir string, in engine.Paging) (*engine.Response, error) {
	names, err := tx.List(dir, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errNotFound
	}
	return &engine.Response{Data: map[string]any{"keys": names}}, nil
}

func data(v map[string]any) *engine.Response { return &engine.Response{Data: v} }

// message takes one message of a client; see message.go.
func (e *Engine) message(ctx context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	return e.serve(ctx, call)
}
