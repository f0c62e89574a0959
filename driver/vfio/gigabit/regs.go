package gigabit

// Registers that the controllers have alike (82574 datasheet, section 10.2; 82576,
// section 8), and their bits.
const (
	regCtrl        = 0x0000
	ctrlMasterOff  = 1 << 2  // GIO Master Disable
	ctrlLinkUp     = 1 << 6  // SLU
	ctrlForceSpeed = 1 << 11 // FRCSPD
	ctrlForceFull  = 1 << 12 // FRCDPLX
	ctrlReset      = 1 << 26 // RST

	regStatus    = 0x0008
	statusLinkUp = 1 << 1  // LU
	statusMaster = 1 << 19 // GIO Master Enable Status
	statusGone   = 0xffffffff

	regEEPROM     = 0x0010 // EEC
	eepromLoaded  = 1 << 9 // Auto_RD
	regEEPROMRead = 0x0014 // EERD
	eepromStart   = 1 << 0 // START
	eepromDone    = 1 << 1 // DONE
	eepromAddress = 2      // shift
	eepromData    = 16     // shift

	regPHY       = 0x0020 // MDIC
	phyReady     = 1 << 28
	phyWrite     = 1 << 26
	phyOne       = 1 << 21 // its address
	phyControl   = 0 << 16 // its register
	phyNegotiate = 0x1340  // enable and restart negotiation, 1 Gbit/s, full duplex

	regCause = 0x00c0 // ICR: reading clears

	regRxCtrl   = 0x0100  // RCTL
	rxEnable    = 1 << 1  // EN
	rxMulticast = 1 << 4  // MPE: all of it
	rxLong      = 1 << 5  // LPE: frames above 1,522 bytes
	rxBroadcast = 1 << 15 // BAM
	rxStripFCS  = 1 << 26 // SECRC

	regTxCtrl  = 0x0400     // TCTL
	txEnable   = 1 << 1     // EN
	txPad      = 1 << 3     // PSP: short packets
	txCollide  = 0x0f << 4  // CT, recommended
	txDistance = 0x40 << 12 // COLD, for full duplex

	regMissed   = 0x4010  // MPC: packets without room, cleared when read
	regRxSum    = 0x5000  // RXCSUM
	sumIP       = 1 << 8  // IPOFLD
	sumL4       = 1 << 9  // TUOFLD
	sumHash     = 1 << 13 // PCSD: the hash, not the sum of a fragment
	regMTA      = 0x5200  // multicast table
	mtaWords    = 128
	regAddrLow  = 0x5400 // RAL0
	regAddrHigh = 0x5404 // RAH0
	addrValid   = 1 << 31
	addrs       = 16
)
