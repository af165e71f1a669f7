package cli

import "strings"

// commands is the table of all commands. A command of another package is in it
// when its hook is set.
func commands(cfg Config) []command {
	list := []command{
		readCommand(), writeCommand(), deleteCommand(), listCommand(), patchCommand(),
		loginCommand(), statusCommand(), unwrapCommand(), pathHelpCommand(), printTokenCommand(),
		versionCommand(), versionHistoryCommand(), monitorCommand(), debugCommand(),

		kvGetCommand(), kvPutCommand(), kvPatchCommand(), kvDeleteCommand(), kvUndeleteCommand(),
		kvDestroyCommand(), kvRollbackCommand(), kvListCommand(), kvEnableVersioningCommand(),
		kvMetadataGetCommand(), kvMetadataPutCommand(), kvMetadataPatchCommand(), kvMetadataDeleteCommand(),

		secretsEnableCommand(), secretsDisableCommand(), secretsListCommand(), secretsMoveCommand(),
		secretsTuneCommand(),
		authEnableCommand(), authDisableCommand(), authListCommand(), authMoveCommand(), authTuneCommand(),
		authHelpCommand(),
		auditEnableCommand(), auditDisableCommand(), auditListCommand(), auditVerifyCommand(),
		policyReadCommand(), policyWriteCommand(), policyListCommand(), policyDeleteCommand(), policyFmtCommand(),
		policyExplainCommand(), policyTestCommand(),
		tokenCreateCommand(), tokenLookupCommand(), tokenRenewCommand(), tokenRevokeCommand(),
		tokenCapabilitiesCommand(),
		transitImportCommand(), transitImportVersionCommand(),
		kmipDoctorCommand(), kmipDecodeCommand(),
		leaseLookupCommand(), leaseRenewCommand(), leaseRevokeCommand(),
		namespaceCreateCommand(), namespaceListCommand(), namespaceLookupCommand(), namespaceDeleteCommand(),
		namespacePatchCommand(), namespaceLockCommand(), namespaceUnlockCommand(),
		pluginListCommand(), pluginInfoCommand(), pluginRegisterCommand(), pluginDeregisterCommand(),
		pluginReloadCommand(), pluginReloadStatusCommand(), pluginRuntimeListCommand(), pluginRuntimeInfoCommand(),
		pluginRuntimeRegisterCommand(), pluginRuntimeDeregisterCommand(),

		initCommand(), unsealCommand(), sealCommand(), rekeyCommand(), rotateCommand(), generateRootCommand(),
		keyStatusCommand(), stepDownCommand(), membersCommand(), operatorUsageCommand(), topCommand(),
		raftListPeersCommand(), raftJoinCommand(), raftRemovePeerCommand(),
		snapshotSaveCommand(), snapshotRestoreCommand(), snapshotInspectCommand(),
		autopilotGetCommand(), autopilotSetCommand(), autopilotStateCommand(),
		migrationStartCommand(), migrationStatusCommand(), migrationSwitchCommand(), migrationCancelCommand(),
	}
	list = append(list, kmipCommands()...)
	hooks := []command{
		{name: "server", summary: "Run the server", delegate: cfg.Server},
		{name: "operator diagnose", summary: "Check a server's configuration", delegate: cfg.Diagnose},
		{name: "operator migrate", summary: "Copy a storage into another, while no server runs", delegate: cfg.Migrate},
		{name: "operator raft recover", summary: "Go on with one node of a raft cluster whose majority is lost", delegate: cfg.Recover},
		{name: "kes", summary: "A KES server and its command line", delegate: cfg.KES},
		{name: "agent", summary: "Run the agent", delegate: cfg.Agent},
		{name: "proxy", summary: "Run the proxy", delegate: cfg.Proxy},
	}
	for _, h := range hooks {
		if h.delegate != nil {
			list = append(list, h)
		}
	}
	return list
}

// groupSummary says what a group of commands is about.
func groupSummary(name string) string {
	switch name {
	case "audit":
		return "Audit devices"
	case "auth":
		return "Auth methods"
	case "kmip":
		return "KMIP servers, their clients and objects"
	case "kmip client":
		return "Clients of KMIP, and what they use"
	case "kmip credential":
		return "Certificates of KMIP clients"
	case "kmip object":
		return "Objects of a KMIP scope, for operators"
	case "kmip template":
		return "Messages that kmip send has ready"
	case "kmip trace":
		return "Messages of a KMIP client"
	case "kv":
		return "The key-value engine's secrets"
	case "kv metadata":
		return "Secrets' settings and versions"
	case "lease":
		return "Leases"
	case "namespace":
		return "Namespaces"
	case "operator":
		return "Running a server: keys, seal, cluster"
	case "operator migration":
		return "Another storage for a server that runs"
	case "operator raft":
		return "The raft cluster"
	case "operator raft autopilot":
		return "The raft cluster's autopilot"
	case "operator raft snapshot":
		return "Snapshots of the storage"
	case "plugin":
		return "Plugins"
	case "plugin runtime":
		return "Container runtimes for plugins"
	case "policy":
		return "ACL policies"
	case "print":
		return "Settings in use"
	case "secrets":
		return "Secrets engines"
	case "token":
		return "Tokens"
	case "transit":
		return "Keys of transit engines"
	}
	return strings.ToUpper(name[:1]) + name[1:]
}
