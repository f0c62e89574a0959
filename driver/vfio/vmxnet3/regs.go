package vmxnet3

// Registers of BAR 0, 8 bytes apart for each interrupt or queue. Reading them means
// nothing.
const (
	regMask     = 0x000 // VMXNET3_REG_IMR: 1 masks an interrupt
	regTxProd   = 0x600 // VMXNET3_REG_TXPROD
	regHeadProd = 0x800 // VMXNET3_REG_RXPROD
	regBodyProd = 0xa00 // VMXNET3_REG_RXPROD2

	interruptStride = 8
)

// Registers of BAR 1.
const (
	regRevision    = 0x00 // VMXNET3_REG_VRRS: the revisions that there are, then the one taken
	regUPT         = 0x08 // VMXNET3_REG_UVRS: likewise
	revision1      = 1
	regSharedLow   = 0x10 // VMXNET3_REG_DSAL
	regSharedHigh  = 0x18 // VMXNET3_REG_DSAH
	regCommand     = 0x20 // VMXNET3_REG_CMD: reading has the answer to the last command
	regAddressLow  = 0x28 // VMXNET3_REG_MACL
	regAddressHigh = 0x30 // VMXNET3_REG_MACH
	regEvents      = 0x40 // VMXNET3_REG_ECR: writing acknowledges

	gone = 0xffffffff
)

// Commands (VMXNET3_CMD).
const (
	cmdActivate       = 0xcafe0000
	cmdQuiesce        = 0xcafe0001
	cmdReset          = 0xcafe0002
	cmdReceiveMode    = 0xcafe0003 // UPDATE_RX_MODE
	cmdVLANs          = 0xcafe0005 // UPDATE_VLAN_FILTERS
	cmdQueueStatus    = 0xf00d0000
	cmdStats          = 0xf00d0001
	cmdLink           = 0xf00d0002
	cmdPermanentLow   = 0xf00d0003 // GET_PERM_MAC_LO
	cmdPermanentHigh  = 0xf00d0004
	linkUp            = 1 << 0 // of the answer
	eventReceiveError = 1 << 0 // VMXNET3_ECR_RQERR: a queue stopped
	eventSendError    = 1 << 1 // VMXNET3_ECR_TQERR
	eventLink         = 1 << 2 // VMXNET3_ECR_LINK
)

// Interrupts.
const (
	intrReceive = iota
	intrEvents
	intrSent // stays masked: Reclaim looks by itself
	interrupts
)

func maskOf(interrupt int) int { return regMask + interrupt*interruptStride }
